//go:build linux

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// describe lists a tree with all that a transfer is to keep.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	inodes := make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name := must[string](t)(filepath.Rel(root, path))
		line := fmt.Sprintf("%q %v %v", name, info.Mode(), info.ModTime().UnixNano())
		st := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode().IsRegular():
			line += fmt.Sprintf(" %d %x", info.Size(), hashOf(t, path))
			if st.Nlink > 1 {
				if first := inodes[st.Ino]; first != "" {
					line += " as " + first
				} else {
					inodes[st.Ino] = name
				}
			}
		case info.Mode()&fs.ModeSymlink != 0:
			line += " -> " + must[string](t)(os.Readlink(path))
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// forest is plant with everything that is hard to copy.
func forest(t *testing.T) string {
	t.Helper()
	dir := plant(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Link(filepath.Join(dir, "hello.txt"), filepath.Join(dir, "sub", "twin")))
	check(os.Symlink("/no/where", filepath.Join(dir, "dangling")))
	check(os.WriteFile(filepath.Join(dir, "b\xffd"), []byte("x"), 0o600))
	check(os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\n"), 0o755))
	check(os.Truncate(filepath.Join(dir, "empty"), 5<<20)) // a hole
	when := time.Date(2010, 1, 2, 3, 4, 5, 678901234, time.UTC)
	check(os.Chtimes(filepath.Join(dir, "run"), when, when))
	check(os.Chmod(filepath.Join(dir, "sub", "deep"), 0o555))
	check(os.Chtimes(filepath.Join(dir, "sub", "deep"), when, when))
	unprotect(t, dir)
	check(os.Chtimes(dir, when, when))
	return dir
}

// unprotect lets a copy of forest be removed after the test.
func unprotect(t *testing.T, dir string) {
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "sub", "deep"), 0o755) })
}

func TestTreesThereAndBack(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	local, scratch := forest(t), t.TempDir()
	guest, back := filepath.Join(scratch, "guest", "tree"), filepath.Join(scratch, "back")
	unprotect(t, guest)
	unprotect(t, back)
	want := describe(t, local)
	up, err := c.Upload(ctx, local, guest, client.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(t, guest); !slices.Equal(got, want) {
		t.Errorf("uploaded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	down, err := c.Download(ctx, guest, back, client.DownloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(t, back); !slices.Equal(got, want) {
		t.Errorf("downloaded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if up.Files != down.Files || up.HardLinks != 1 || up.Symlinks != 2 || up.Skipped != 0 || down.Skipped != 0 || up.Bytes != down.Bytes {
		t.Errorf("up %+v, down %+v", up, down)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(scratch)); len(entries) != 2 {
		t.Errorf("left over: %v", entries)
	}
}

func TestUploadMergesAndExcludes(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	guest := t.TempDir()
	if err := os.WriteFile(filepath.Join(guest, "hello.txt"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(guest, "other"), []byte("stays"), 0o600); err != nil {
		t.Fatal(err)
	}
	transfer, err := c.Upload(ctx, plant(t), guest, client.UploadOptions{Exclude: []string{"deep", "*.nothing"}, KeepExisting: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(guest, "hello.txt"))); string(got) != "old" {
		t.Errorf("%q", got)
	}
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(guest, "other"))); string(got) != "stays" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(filepath.Join(guest, "sub", "deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("excluded: %v", err)
	}
	if transfer.Skipped != 1 || len(transfer.Skips) != 1 || !strings.Contains(transfer.Skips[0].Path, "hello.txt") {
		t.Errorf("%+v", transfer)
	}
}

// random is a file of random content.
func random(t *testing.T, size int) string {
	t.Helper()
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = source.Read(data)
	path := filepath.Join(t.TempDir(), "random")
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2020, 1, 2, 3, 4, 5, 987654321, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThereAndBack(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	for _, size := range []int{0, 1, 100_000, 9 << 20} {
		for _, resume := range []bool{false, true} {
			local, scratch := random(t, size), t.TempDir()
			guest, back := filepath.Join(scratch, "new", "guest"), filepath.Join(scratch, "back")
			if size > 1<<20 {
				l.cutAfter(40, 60, 100, 2000)
			}
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			var seen []client.Progress
			up, err := c.Upload(ctx, local, guest, client.UploadOptions{
				Resume: resume, Progress: func(p client.Progress) { seen = append(seen, p) },
			})
			if err != nil || up.Files != 1 || up.Bytes != int64(size) {
				t.Fatalf("%+v, %v", up, err)
			}
			if last := seen[len(seen)-1]; last.Bytes != int64(size) || last.Total != int64(size) || last.Path != "random" {
				t.Errorf("last progress %+v", last)
			}
			if size > 1<<20 {
				l.cutAfter(1<<20, 100, 1<<20, 3<<20)
			}
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			seen = nil
			down, err := c.Download(ctx, guest, back, client.DownloadOptions{
				Resume: resume, Progress: func(p client.Progress) { seen = append(seen, p) },
			})
			if err != nil || down.Files != 1 || down.Bytes != int64(size) {
				t.Fatalf("%+v, %v", down, err)
			}
			if last := seen[len(seen)-1]; last.Bytes != int64(size) || last.Total != int64(size) {
				t.Errorf("last progress %+v", last)
			}
			want, there, here := describe(t, local), describe(t, guest), describe(t, back)
			if !slices.Equal(want, there) || !slices.Equal(want, here) {
				t.Errorf("\n%s\n%s\n%s", want, there, here)
			}
			if entries := must[[]os.DirEntry](t)(os.ReadDir(scratch)); len(entries) != 2 {
				t.Errorf("left over: %v", entries)
			}
			for { // until the agent has noticed that a connection was cut
				entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(guest)))
				if len(entries) == 1 {
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("left over: %v", entries)
				}
				runtime.Gosched()
			}
		}
	}
}

// brokenOff runs a transfer that ends when the connection does.
func brokenOff(t *testing.T, l *line, transfer func() error) {
	t.Helper()
	if err := transfer(); !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("it did not break off: %v", err)
	}
	l.setDown(false)
}

func TestDownloadGoesOnLater(t *testing.T) {
	c, l := liveWith(t, client.Config{ReattachTimeout: -1})
	ctx := within(t)
	const size = 6 << 20
	guest, scratch := random(t, size), t.TempDir()
	back := filepath.Join(scratch, "back")
	if err := os.WriteFile(back, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.cutAfter(3 << 20)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	brokenOff(t, l, func() error {
		_, err := c.Download(ctx, guest, back, client.DownloadOptions{Resume: true})
		return err
	})
	if got := must[[]byte](t)(os.ReadFile(back)); string(got) != "old" {
		t.Errorf("%q", got)
	}
	parts := must[[]string](t)(filepath.Glob(filepath.Join(scratch, ".back.*.part")))
	if len(parts) != 1 {
		t.Fatalf("parts %q", parts)
	}
	had := must[os.FileInfo](t)(os.Stat(parts[0])).Size()
	if had < 1<<20 {
		t.Errorf("only %d bytes are there", had)
	}
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	received := l.received()
	if _, err := c.Download(ctx, guest, back, client.DownloadOptions{Resume: true}); err != nil {
		t.Fatal(err)
	}
	if n := l.received() - received; n > size-had+1<<20 {
		t.Errorf("%d bytes came, of %d that were missing", n, size-had)
	}
	if hashOf(t, back) != hashOf(t, guest) {
		t.Error("another content")
	}
	// Without Resume nothing stays.
	l.cutAfter(2 << 20)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	brokenOff(t, l, func() error {
		_, err := c.Download(ctx, guest, back, client.DownloadOptions{})
		return err
	})
	if entries := must[[]os.DirEntry](t)(os.ReadDir(scratch)); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestUploadGoesOnLater(t *testing.T) {
	c, l := liveWith(t, client.Config{ReattachTimeout: -1})
	ctx := within(t)
	const size = 24 << 20
	local, dir := random(t, size), t.TempDir()
	guest := filepath.Join(dir, "guest")
	if err := os.WriteFile(guest, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	l.cutAfterSent(12 << 20)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	brokenOff(t, l, func() error {
		_, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: true})
		return err
	})
	if got := must[[]byte](t)(os.ReadFile(guest)); string(got) != "old" {
		t.Errorf("%q", got)
	}
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	var sent int64
	for err := client.ErrLocked; errors.Is(err, client.ErrLocked); { // by the writer of before, until the agent has noticed
		sent = l.sent()
		if _, err = c.Upload(ctx, local, guest, client.UploadOptions{Resume: true}); err != nil && !errors.Is(err, client.ErrLocked) {
			t.Fatal(err)
		}
	}
	if n := l.sent() - sent; n > size-4<<20 {
		t.Errorf("%d bytes went, of %d", n, size)
	}
	if hashOf(t, local) != hashOf(t, guest) {
		t.Error("another content")
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

// A piece that did not arrive whole did not arrive: pieces become smaller where
// connections do not live for one.
func TestTransfersGetOnOverShortConnections(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	const size, lives = 2 << 20, 200 << 10
	local, dir := random(t, size), t.TempDir()
	guest, back := filepath.Join(dir, "guest"), filepath.Join(dir, "back")
	cuts := slices.Repeat([]int{lives}, 200)
	l.cutAfterSent(cuts...)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: true}); err != nil {
		t.Fatal(err)
	}
	l.cutAfterSent()
	l.cutAfter(cuts...)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(ctx, guest, back, client.DownloadOptions{Resume: true, Checksum: client.SHA256}); err != nil {
		t.Fatal(err)
	}
	if n := l.connections(); n < size/lives {
		t.Errorf("%d connections, too few for a life of %d bytes", n, lives)
	}
	if hashOf(t, back) != hashOf(t, local) {
		t.Error("another content")
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 2 {
		t.Errorf("left over: %v", entries)
	}
}

// A file that grows while it is sent is the file as it was in the beginning, and
// that is told; one that shrinks is no file at all.
func TestUploadOfAFileThatChanges(t *testing.T) {
	const size = 4 << 20
	// upload changes the file when it has been opened, and the client connects.
	upload := func(t *testing.T, newSize int64) (content []byte, guest string, transfer client.Transfer, err error) {
		c, l := live(t)
		local, guest := random(t, size), filepath.Join(t.TempDir(), "guest")
		content = must[[]byte](t)(os.ReadFile(local))
		dial := l.dial
		l.dial = func(ctx context.Context) (net.Conn, error) {
			return must[net.Conn](t)(dial(ctx)), os.Truncate(local, newSize)
		}
		transfer, err = c.Upload(within(t), local, guest, client.UploadOptions{})
		return content, guest, transfer, err
	}
	content, guest, transfer, err := upload(t, size+100_000)
	if err != nil || transfer.Bytes != size || transfer.Skipped != 1 || transfer.Skips[0].Reason != "grew while read" {
		t.Errorf("%+v, %v", transfer, err)
	}
	if got := must[[]byte](t)(os.ReadFile(guest)); !bytes.Equal(got, content) {
		t.Errorf("%d bytes, or others than there were", len(got))
	}
	_, guest, transfer, err = upload(t, 10)
	if !errors.Is(err, client.ErrChecksum) {
		t.Errorf("%+v, %v", transfer, err)
	}
	if _, err := os.Stat(guest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Downloads of one file to one place do not get into each other's way.
func TestDownloadsToOnePlace(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	guest, dir := random(t, 8<<20), t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := c.Download(ctx, guest, filepath.Join(dir, "back"), client.DownloadOptions{Resume: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if hashOf(t, filepath.Join(dir, "back")) != hashOf(t, guest) {
		t.Error("another content")
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestTransferErrors(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	if _, err := c.Upload(ctx, filepath.Join(dir, "none"), "/x", client.UploadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := c.Download(ctx, filepath.Join(dir, "none"), filepath.Join(dir, "x"), client.DownloadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := c.Download(ctx, random(t, 10), dir, client.DownloadOptions{}); !errors.Is(err, client.ErrWrongType) {
		t.Errorf("%v", err)
	}
	if _, err := c.Download(ctx, "/dev/zero", filepath.Join(dir, "x"), client.DownloadOptions{}); !errors.Is(err, client.ErrWrongType) {
		t.Errorf("%v", err)
	}
	// As /dev/null is for root: it stays what it is.
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(ctx, random(t, 10), fifo, client.DownloadOptions{}); !errors.Is(err, client.ErrWrongType) {
		t.Errorf("%v", err)
	}
	if info, err := os.Lstat(fifo); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := c.Download(ctx, random(t, 1000), filepath.Join(dir, "x"), client.DownloadOptions{MaxBytes: 999}); !errors.Is(err, client.ErrLimit) {
		t.Errorf("%v", err)
	}
	for _, o := range []client.DownloadOptions{{MaxBytes: 1000}, {MaxEntries: 3}} {
		if _, err := c.Download(ctx, plant(t), filepath.Join(dir, "x"), o); !errors.Is(err, client.ErrLimit) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := c.Upload(ctx, plant(t), "/proc/nothing/here", client.UploadOptions{}); err == nil {
		t.Error("upload into /proc")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Upload(cancelled, plant(t), filepath.Join(dir, "y"), client.UploadOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestProgressIsFromOneGoroutineAndEnds(t *testing.T) {
	c, _ := live(t)
	local := t.TempDir()
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(local, fmt.Sprint(i)), bytes.Repeat([]byte("x"), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var last client.Progress // the race detector watches it
	calls := 0
	_, err := c.Upload(within(t), local, filepath.Join(t.TempDir(), "t"), client.UploadOptions{Progress: func(p client.Progress) {
		if p.Bytes < last.Bytes || p.Files < last.Files {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
		calls++
	}})
	if err != nil {
		t.Fatal(err)
	}
	if calls == 0 || last.Bytes != 300_000 || last.Total != 300_000 || last.Files != 301 {
		t.Errorf("%d calls, %+v", calls, last)
	}
}
