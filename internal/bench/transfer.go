//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guestd/guestd/client"
)

// content is size bytes that cost nothing to make, and whose pages are not all
// the same.
func content(size int64) io.Reader {
	buffer := make([]byte, chunk)
	for i := range buffer {
		buffer[i] = byte(i * 2654435761 >> 13)
	}
	return io.LimitReader(&repeated{buffer: buffer}, size)
}

type repeated struct {
	buffer []byte
	at     int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.buffer[r.at:])
	r.at = (r.at + n) % len(r.buffer)
	return n, nil
}

// uploadFile is P2.
func uploadFile(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	p, err := b.startPeer()
	if err != nil {
		return nil, err
	}
	defer p.stop()
	path := filepath.Join(b.dir, "uploaded")
	defer os.Remove(path)

	var rows []row
	for _, sum := range []struct {
		name string
		kind client.Checksum
	}{{"CRC-32C", client.CRC32C}, {"SHA-256", client.SHA256}} {
		r, err := pairs(b.rounds, func() (time.Duration, error) {
			os.Remove(path)
			return clock(func() error {
				_, err := a.Files().WriteFile(ctx, path, content(b.size), client.WriteOptions{Size: b.size, Checksum: sum.kind})
				return err
			})
		}, func() (time.Duration, error) {
			os.Remove(p.path)
			return clock(func() error { return p.put(content(b.size), b.size) })
		})
		if err != nil {
			return nil, err
		}
		r = r.inverse()
		rows = append(rows, row{
			id: "P2", what: fmt.Sprintf("upload of %s, atomic, %s end to end", size(b.size), sum.name),
			against: "raw unix socket → file", goal: "≥ 0.75", result: r.String(), met: r.median >= 0.75,
			note: fmt.Sprintf("%s against %s; gRPC copies each byte once on either end, and both ends share the CPUs with the checksums",
				speed(b.size, r.ours), speed(b.size, r.theirs)),
		})
	}
	return rows, nil
}

// downloadFile is P3.
func downloadFile(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	p, err := b.startPeer()
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := p.put(content(b.size), b.size); err != nil {
		return nil, err
	}
	r, err := pairs(b.rounds, func() (time.Duration, error) {
		return clock(func() error {
			reader, err := a.Files().Open(ctx, p.path, client.ReadOptions{})
			if err != nil {
				return err
			}
			defer func() { _ = reader.Close() }()
			n, err := io.Copy(io.Discard, reader)
			if err == nil && n != b.size {
				err = fmt.Errorf("%d bytes arrived instead of %d", n, b.size)
			}
			return err
		})
	}, func() (time.Duration, error) { return clock(p.get) })
	if err != nil {
		return nil, err
	}
	r = r.inverse()
	return []row{{
		id: "P3", what: "download of " + size(b.size) + ", checksum included", against: "raw file → unix socket",
		goal: "≥ 0.60", result: r.String(), met: r.median >= 0.6,
		note: fmt.Sprintf("%s against %s; as for the upload", speed(b.size, r.ours), speed(b.size, r.theirs)),
	}}, nil
}

// uploadTree is P4.
func uploadTree(ctx context.Context, b *bench) ([]row, error) {
	const files = 10_000
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	source := filepath.Join(b.dir, "source")
	defer os.RemoveAll(source)
	if err := makeTree(source, files); err != nil {
		return nil, err
	}
	target := filepath.Join(b.dir, "target")
	defer os.RemoveAll(target)
	fresh := func() error {
		if err := os.RemoveAll(target); err != nil {
			return err
		}
		return os.Mkdir(target, 0o755)
	}
	var transferred client.Transfer
	r, err := pairs(b.rounds, func() (time.Duration, error) {
		if err := fresh(); err != nil {
			return 0, err
		}
		return clock(func() (err error) {
			transferred, err = a.Upload(ctx, source, filepath.Join(target, "tree"), client.UploadOptions{})
			return err
		})
	}, func() (time.Duration, error) {
		if err := fresh(); err != nil {
			return 0, err
		}
		return clock(func() error { return tarOverSocket(ctx, source, target) })
	})
	if err != nil {
		return nil, err
	}
	r = r.inverse()
	return []row{{
		id: "P4", what: fmt.Sprintf("upload of a tree of %d files of 1 KiB", files), against: "tar c \\| tar x over a raw socket",
		goal: "≥ 0.80", result: r.String(), met: r.median >= 0.8,
		note: fmt.Sprintf("%v against %v; %d bytes; tar in its default format, which keeps times to the second, ours to the nanosecond",
			r.ours.Round(time.Millisecond), r.theirs.Round(time.Millisecond), transferred.Bytes),
	}}, nil
}

// makeTree writes n small files in directories of a hundred.
func makeTree(root string, n int) error {
	data := make([]byte, 1024)
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d", i%100)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tarOverSocket runs tar c and tar x with a unix socket between them.
func tarOverSocket(ctx context.Context, source, target string) error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ends := [2]*os.File{os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")}
	pack := exec.CommandContext(ctx, "tar", "-C", source, "-cf", "-", ".")
	pack.Stdout, pack.Stderr = ends[0], os.Stderr
	unpack := exec.CommandContext(ctx, "tar", "-C", target, "-xpf", "-")
	unpack.Stdin, unpack.Stderr = ends[1], os.Stderr
	var both errgroup.Group
	for i, cmd := range []*exec.Cmd{pack, unpack} {
		err := cmd.Start()
		ends[i].Close()
		if err != nil {
			return err
		}
		both.Go(cmd.Wait)
	}
	return both.Wait()
}

// uploadMemory is P14.
func uploadMemory(ctx context.Context, b *bench) ([]row, error) {
	var rows []row
	for _, at := range []struct {
		once  int
		limit int64 // MB
	}{{1, 32}, {8, 64}} {
		a, err := b.startAgent(ctx)
		if err != nil {
			return nil, err
		}
		peak, err := peakOfUploads(ctx, b, a, at.once)
		a.stop()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{
			id: "P14", what: fmt.Sprintf("peak resident memory, %d uploads at once of %s together", at.once, size(b.size)),
			against: "–", goal: fmt.Sprintf("≤ %d MB", at.limit), result: megabytes(peak), met: peak*1024 <= at.limit*1_000_000,
		})
	}
	return rows, nil
}

func peakOfUploads(ctx context.Context, b *bench, a *agent, n int) (int64, error) {
	if err := resetPeak(a.pid()); err != nil {
		return 0, err
	}
	var uploads errgroup.Group
	for i := range n {
		path := filepath.Join(b.dir, fmt.Sprintf("upload%d", i))
		defer os.Remove(path)
		uploads.Go(func() error {
			_, err := a.Files().WriteFile(ctx, path, content(b.size/int64(n)), client.WriteOptions{})
			return err
		})
	}
	if err := uploads.Wait(); err != nil {
		return 0, err
	}
	return kilobytes(a.pid(), "VmHWM")
}

func size(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
