//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/client"
)

const (
	manyEntries     = 1_000_000
	manyDirectories = 10_000
)

// P18 is what things cost where much is already there.

func execBesideMany(ctx context.Context, b *bench) ([]row, error) {
	alone, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer alone.stop()
	crowded, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer crowded.stop()
	if err := sleepers(ctx, crowded, aliveAtOnce); err != nil {
		return nil, err
	}
	if _, err := spawnAndWait(ctx, crowded, 1000); err != nil {
		return nil, err
	}
	r, err := batches(execRounds, execBatch, remoteTrue(ctx, crowded), remoteTrue(ctx, alone))
	if err != nil {
		return nil, err
	}
	if err := endAll(ctx, crowded); err != nil {
		return nil, err
	}
	return []row{{
		id: "P18", what: "exec of true with 1,000 alive and 1,000 ended", against: "the same in an empty agent", goal: "≤ 1.20×",
		result: r.String(), met: r.median <= 1.2,
	}}, nil
}

func listMany(ctx context.Context, b *bench) ([]row, error) {
	dir := filepath.Join(b.dir, "many")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := makeEntries(dir, manyEntries); err != nil {
		return nil, err
	}
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	if err := resetPeak(a.pid()); err != nil {
		return nil, err
	}
	before, err := kilobytes(a.pid(), "VmRSS")
	if err != nil {
		return nil, err
	}
	r, err := pairs(3, func() (time.Duration, error) {
		return clock(func() error {
			n := 0
			for _, err := range a.Files().ReadDir(ctx, dir, client.ReadDirOptions{NamesOnly: true}) {
				if err != nil {
					return err
				}
				n++
			}
			if n != manyEntries {
				return fmt.Errorf("%d entries listed instead of %d", n, manyEntries)
			}
			return nil
		})
	}, func() (time.Duration, error) {
		return clock(func() error { return findAll(ctx, dir) })
	})
	if err != nil {
		return nil, err
	}
	peak, err := kilobytes(a.pid(), "VmHWM")
	if err != nil {
		return nil, err
	}
	grown := max(peak-before, 0)
	return []row{
		{
			id: "P18", what: "a directory of 1,000,000 entries listed", against: "find, its output read", goal: "≤ 1.50×",
			result: r.String(), met: r.median <= 1.5,
			note: fmt.Sprintf("%v against %v", r.ours.Round(time.Millisecond), r.theirs.Round(time.Millisecond)),
		},
		{id: "P18", what: "memory that the agent took for it", against: "–", goal: "≤ 16 MB", result: megabytes(grown), met: grown*1024 <= 16_000_000},
	}, nil
}

// makeEntries makes n names of one file: inodes would cost gigabytes on a
// tmpfs.
func makeEntries(dir string, n int) error {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Mknodat(fd, "f0000000", unix.S_IFREG|0o644, 0); err != nil {
		return err
	}
	for i := 1; i < n; i++ {
		if err := unix.Linkat(fd, "f0000000", fd, fmt.Sprintf("f%07d", i), 0); err != nil {
			return err
		}
	}
	return nil
}

func findAll(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "find", dir, "-mindepth", "1", "-printf", `%y %P\n`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); n++ {
	}
	if n != manyEntries {
		return fmt.Errorf("find printed %d lines", n)
	}
	return cmd.Wait()
}

func watchMany(ctx context.Context, b *bench) ([]row, error) {
	const what = "a recursive watch on 10,000 directories, until it stands"
	if _, err := exec.LookPath("inotifywait"); err != nil {
		return []row{{
			id: "P18", what: what, against: "inotifywait -r", goal: "≤ 1.50×", result: notMeasured,
			note: "inotifywait is not installed (Debian: inotify-tools)",
		}}, nil
	}
	root := filepath.Join(b.dir, "watched")
	defer os.RemoveAll(root)
	for i := range manyDirectories {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("%03d/%03d", i/100, i%100)), 0o755); err != nil {
			return nil, err
		}
	}
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	r, err := pairs(b.rounds, func() (time.Duration, error) {
		return clock(func() error {
			w, err := a.Files().Watch(ctx, root, client.WatchOptions{Recursive: true})
			if err != nil {
				return err
			}
			if w.Directories() < manyDirectories {
				err = fmt.Errorf("%d directories are watched", w.Directories())
			}
			return errors.Join(err, w.Close())
		})
	}, func() (time.Duration, error) { return inotifywait(ctx, root) })
	if err != nil {
		return nil, err
	}
	return []row{{
		id: "P18", what: what, against: "inotifywait -r", goal: "≤ 1.50×", result: r.String(), met: r.median <= 1.5,
		note: fmt.Sprintf("%v against %v", r.ours.Round(time.Millisecond), r.theirs.Round(time.Millisecond)),
	}}, nil
}

// inotifywait measures the time until it says that its watches stand.
func inotifywait(ctx context.Context, root string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "inotifywait", "-m", "-r", root)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	established := false
	for lines := bufio.NewScanner(stderr); !established && lines.Scan(); {
		established = strings.Contains(lines.Text(), "Watches established")
	}
	took := time.Since(start)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !established {
		return 0, errors.New("inotifywait ended before its watches stood")
	}
	return took, nil
}
