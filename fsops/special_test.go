//go:build linux

package fsops

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSpecialFilesAreRefused(t *testing.T) {
	f, dir := ownFS(t)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	t.Chdir(dir) // a socket's path may be no longer than 107 bytes
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"fifo", "socket", "/dev/zero", "/dev/null"} {
		for what, open := range map[string]func() error{
			"open":     func() error { _, err := f.Open(bg(), path, OpenOptions{}); return err },
			"openread": func() error { _, err := f.OpenRead(bg(), path, ReadOptions{}); return err },
			"write":    func() error { _, err := f.NewWriter(bg(), path, WriteOptions{}); return err },
			"truncate": func() error { _, err := f.NewWriter(bg(), path, WriteOptions{Mode: WriteTruncate}); return err },
		} {
			var pe *fs.PathError
			if err := open(); !errors.Is(err, ErrSpecial) || !errors.As(err, &pe) || pe.Path != path {
				t.Errorf("%s %s: %v", what, path, err)
			}
		}
	}
	if _, err := f.Open(bg(), "socket", OpenOptions{AllowSpecial: true}); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("socket: %v", err)
	}
	if _, err := f.NewWriter(bg(), "fifo", WriteOptions{AllowSpecial: true}); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("FIFO without a reader: %v", err)
	}
	if got := readAll(t, f, "/dev/zero", ReadOptions{Length: 1 << 20, AllowSpecial: true}); len(got) != 1<<20 || strings.Trim(got, "\x00") != "" {
		t.Errorf("/dev/zero: %d bytes", len(got))
	}
	w, err := f.NewWriter(bg(), "/dev/null", WriteOptions{AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
		t.Error(n, err)
	}
	if _, err := w.Commit(bg(), nil); err != nil {
		t.Error(err)
	}
}

// FIFOs of a user: nothing blocks for ever, and a read waits for the first
// writer rather than ending.
func TestFIFO(t *testing.T) {
	for name, view := range map[string]func(testing.TB) (*FS, string){"own": ownFS, "user": userFS} {
		t.Run(name, func(t *testing.T) {
			f, dir := view(t)
			path := filepath.Join(dir, "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(bg())
			r, err := f.OpenRead(ctx, "fifo", ReadOptions{AllowSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error, 1)
			read := func() { _, err := r.Read(make([]byte, 1)); got <- err }
			go read()
			cancel()
			if err := <-got; !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: %v", err)
			}
			must(t, r.Close())

			if r, err = f.OpenRead(bg(), "fifo", ReadOptions{AllowSpecial: true}); err != nil {
				t.Fatal(err)
			}
			go read()
			must(t, r.Close())
			if err := <-got; !errors.Is(err, fs.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
			fifoTransfer(t, f)
			fifoHandle(t, f)
		})
	}
}

func fifoTransfer(t *testing.T, f *FS) {
	r, err := f.OpenRead(bg(), "fifo", ReadOptions{AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data := bytes.Repeat([]byte("0123456789"), 100_000) // more than a pipe holds
	var reading sync.WaitGroup
	reading.Go(func() {
		if got, err := io.ReadAll(r); !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	w, err := f.NewWriter(bg(), "fifo", WriteOptions{AllowSpecial: true, Checksum: SHA256})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Error(n, err)
	}
	if _, err := w.Commit(bg(), nil); err != nil {
		t.Error(err)
	}
	reading.Wait()

	// With nobody reading on, a full FIFO lets go when the context ends.
	stuck, err := f.OpenRead(bg(), "fifo", ReadOptions{AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stuck.Close() }()
	ctx, cancel := context.WithCancel(bg())
	w, err = f.NewWriter(ctx, "fifo", WriteOptions{AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	full := make(chan struct{})
	go func() {
		defer close(full)
		defer cancel()
		awaitFull(t, stuck)
	}()
	var we *WriteError
	if _, err := w.Write(data); !errors.Is(err, context.Canceled) || !errors.As(err, &we) || we.Written == 0 {
		t.Errorf("canceled: %v", err)
	}
	<-full
	must(t, w.Abort())
}

// awaitFull waits until a FIFO holds as much as it can, or for very long.
func awaitFull(t *testing.T, r *Reader) {
	var holds, capacity int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		must(t, r.w.control(func(fd int) (err error) {
			if holds, err = unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil { // FIONREAD
				return err
			}
			capacity, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
			return err
		}))
		if holds == capacity {
			return
		}
	}
	t.Errorf("the FIFO holds %d bytes of %d", holds, capacity)
}

func fifoHandle(t *testing.T, f *FS) {
	h, err := f.Open(bg(), "fifo", OpenOptions{Flags: unix.O_RDWR, AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	ctx, cancel := context.WithTimeout(bg(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.Read(ctx, buf); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read of nothing: %v", err)
	}
	if _, err := h.Write(bg(), []byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := h.Read(bg(), buf); n != 1 || err != nil {
		t.Errorf("after a read that was ended: %d, %v", n, err)
	}
	got := make(chan error, 1)
	go func() { _, err := h.Read(bg(), buf); got <- err }()
	must(t, h.Close())
	if err := <-got; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
