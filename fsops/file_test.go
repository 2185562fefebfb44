//go:build linux

package fsops

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHandle(t *testing.T) {
	f, dir := ownFS(t)
	h, err := f.Open(bg(), rawName, OpenOptions{Flags: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, Perm: ptr(uint32(0o666))})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := h.Write(bg(), []byte("hello world")); n != 11 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := h.WriteAt(bg(), []byte("W"), 6); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if pos, err := h.Seek(-5, io.SeekEnd); pos != 6 || err != nil {
		t.Fatal(pos, err)
	}
	buf := make([]byte, 100)
	if n, err := h.Read(bg(), buf); string(buf[:n]) != "World" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, err := h.Read(bg(), buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := h.ReadAt(bg(), buf, 6); string(buf[:n]) != "World" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := h.Truncate(bg(), 5); err != nil {
		t.Fatal(err)
	}
	if err := h.SetAttr(bg(), Attrs{Mode: ptr(uint32(0o640)), Mtime: ptr(time.Unix(5, 6))}); err != nil {
		t.Fatal(err)
	}
	if err := h.Sync(bg(), true); err != nil {
		t.Error(err)
	}
	info, err := h.Stat(bg())
	if err != nil || info.Name != rawName || info.Size != 5 || info.Perm() != 0o640 || !info.Mtime.Equal(time.Unix(5, 6)) {
		t.Errorf("%+v, %v", info, err)
	}
	if sys, err := h.Statfs(bg()); err != nil || sys.Size == 0 {
		t.Errorf("%+v, %v", sys, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, filepath.Join(dir, rawName), "hello")
	_, err1 := h.Read(bg(), buf)
	_, err2 := h.Stat(bg())
	for _, err := range []error{err1, err2, h.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestOpen(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "file", "d/", "link -> file", "dangling -> new")
	for _, test := range []struct {
		path  string
		flags int
		errno syscall.Errno
	}{
		{"none", unix.O_RDONLY, syscall.ENOENT},
		{"d", unix.O_RDONLY, syscall.EISDIR},
		{"d", unix.O_RDWR | unix.O_CREAT, syscall.EISDIR},
		{"file", unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY, syscall.EEXIST},
		{"dangling", unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY, syscall.EEXIST},
		{"link", unix.O_RDONLY | unix.O_NOFOLLOW, syscall.ELOOP},
		{"file/x", unix.O_WRONLY | unix.O_CREAT, syscall.ENOTDIR},
		{"none/x", unix.O_WRONLY | unix.O_CREAT, syscall.ENOENT},
		{"new/", unix.O_WRONLY | unix.O_CREAT, syscall.EISDIR},
		{"file", unix.O_DIRECTORY, syscall.EINVAL},
		{"file", unix.O_PATH, syscall.EINVAL},
	} {
		_, err := f.Open(bg(), test.path, OpenOptions{Flags: test.flags})
		wantErrno(t, err, test.path, test.errno)
	}
	h, err := f.Open(bg(), "dangling", OpenOptions{Flags: unix.O_WRONLY | unix.O_CREAT})
	if err != nil {
		t.Fatal(err)
	}
	must(t, h.Close())
	wantContent(t, filepath.Join(dir, "new"), "")
	h, err = f.Open(bg(), "file", OpenOptions{Flags: unix.O_WRONLY | unix.O_APPEND})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	for _, write := range []func() (int, error){
		func() (int, error) { return h.Write(bg(), []byte("1")) },
		func() (int, error) { return h.WriteAt(bg(), []byte("2"), 0) },
	} {
		if n, err := write(); n != 1 || err != nil {
			t.Errorf("append: %d, %v", n, err)
		}
	}
	wantContent(t, filepath.Join(dir, "file"), "file12")
}

func TestLocks(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "file")
	open := func() *Handle {
		h, err := f.Open(bg(), "file", OpenOptions{Flags: unix.O_RDWR})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for _, flock := range []bool{false, true} {
		a, b := open(), open()
		lock := func(h *Handle, kind LockKind) error {
			return h.Lock(bg(), LockOptions{Kind: kind, Flock: flock})
		}
		if err := errors.Join(lock(a, LockShared), lock(b, LockShared), lock(b, LockRelease), lock(a, LockExclusive)); err != nil {
			t.Fatal(err)
		}
		wantErrno(t, lock(b, LockShared), "file", syscall.EAGAIN)
		ctx, cancel := context.WithTimeout(bg(), 20*time.Millisecond)
		if err := b.Lock(ctx, LockOptions{Flock: flock, Wait: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited in vain: %v", err)
		}
		cancel()
		got := make(chan error, 1)
		go func() { got <- b.Lock(bg(), LockOptions{Kind: LockExclusive, Flock: flock, Wait: true}) }()
		must(t, a.Close())
		if err := <-got; err != nil {
			t.Errorf("waited: %v", err)
		}
		must(t, b.Close())
	}
	a, b := open(), open()
	defer func() { _ = a.Close() }()
	defer func() { _ = b.Close() }()
	if err := errors.Join(a.Lock(bg(), LockOptions{Kind: LockExclusive, Length: 2}), b.Lock(bg(), LockOptions{Kind: LockExclusive, Start: 2})); err != nil {
		t.Errorf("ranges that do not touch: %v", err)
	}
}

func readAll(t testing.TB, f *FS, path string, opts ReadOptions) string {
	t.Helper()
	r, err := f.OpenRead(bg(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestOpenRead(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "0123456789")
	for want, opts := range map[string]ReadOptions{
		"0123456789": {},
		"3456789":    {Offset: 3},
		"34":         {Offset: 3, Length: 2},
		"789":        {Offset: -3},
		"78":         {Offset: -3, Length: 2},
		"012345678":  {Offset: -99, Length: 9},
		"9":          {Offset: 9, Length: 99},
		"":           {Offset: 99},
	} {
		if got := readAll(t, f, "x", opts); got != want {
			t.Errorf("%+v: %q, want %q", opts, got, want)
		}
	}
	r, err := f.OpenRead(bg(), "x", ReadOptions{Offset: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 3)); err != nil || r.Offset() != 5 || r.Info().Size != 10 || r.Info().Name != "x" {
		t.Errorf("offset %d, %v", r.Offset(), err)
	}
	must(t, r.Close())
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := r.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	_, err = f.OpenRead(bg(), ".", ReadOptions{})
	wantErrno(t, err, ".", syscall.EISDIR)
	_, err = f.OpenRead(bg(), "x", ReadOptions{Length: -1})
	wantErrno(t, err, "x", syscall.EINVAL)

	ctx, cancel := context.WithCancel(bg())
	r, err = f.OpenRead(ctx, "x", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cancel()
	eventually(t, "read fails", func() bool { _, err := r.Read(make([]byte, 0)); return errors.Is(err, context.Canceled) })
}

// Files in /proc and /sys have a size that says nothing.
func TestReadKernelFiles(t *testing.T) {
	f, dir := ownFS(t)
	for _, path := range []string{"/proc/self/mountinfo", "/proc/version", "/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Logf("no %s: %v", path, err)
			continue
		}
		if got := readAll(t, f, path, ReadOptions{}); len(got) == 0 || path == "/proc/version" && got != string(want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if _, err := f.Copy(bg(), "/proc/version", "version", CopyOptions{}); err != nil {
		t.Error(err)
	}
	want, _ := os.ReadFile("/proc/version")
	wantContent(t, filepath.Join(dir, "version"), string(want))
}

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
	time.AfterFunc(20*time.Millisecond, cancel)
	var we *WriteError
	if _, err := w.Write(data); !errors.Is(err, context.Canceled) || !errors.As(err, &we) || we.Written == 0 {
		t.Errorf("canceled: %v", err)
	}
	must(t, w.Abort())
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

// follower reads a followed file in the background.
type follower struct {
	mu     sync.Mutex
	text   strings.Builder
	events []error
	done   chan error
}

func follow(r *Reader) *follower {
	w := &follower{done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := r.Read(buf)
			w.mu.Lock()
			w.text.Write(buf[:n])
			if errors.Is(err, ErrTruncated) || errors.Is(err, ErrReplaced) {
				w.events = append(w.events, err)
				w.text.WriteString("|")
				err = nil
			}
			w.mu.Unlock()
			if err != nil {
				w.done <- err
				return
			}
		}
	}()
	return w
}

func (w *follower) waitFor(t *testing.T, want string) {
	t.Helper()
	var got string
	defer func() {
		if got != want {
			t.Logf("have %q, want %q", got, want)
		}
	}()
	eventually(t, "text of the followed file", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		got = w.text.String()
		return got == want
	})
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "log")
	mustWrite(t, path, "0123")
	ctx, cancel := context.WithCancel(bg())
	r, err := f.OpenRead(ctx, "log", ReadOptions{Offset: -2, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w := follow(r)
	w.waitFor(t, "23")
	appendTo(t, path, "45")
	w.waitFor(t, "2345")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	w.waitFor(t, "2345|")
	appendTo(t, path, "ab")
	w.waitFor(t, "2345|ab")
	// Rotation: what is appended to the old file before the new one is there
	// still comes.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path+".1", "c")
	w.waitFor(t, "2345|abc")
	mustWrite(t, path, "new")
	w.waitFor(t, "2345|abc|new")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, "newer")
	w.waitFor(t, "2345|abc|new|newer")
	cancel()
	if err := <-w.done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := []error{ErrTruncated, ErrReplaced, ErrReplaced}; !slices.Equal(w.events, want) {
		t.Errorf("events %v", w.events)
	}
}

func TestFollowEnds(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "log"), "x")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	w := follow(r)
	w.waitFor(t, "x")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	// A range ends although the file is followed.
	r, err = f.OpenRead(bg(), "log", ReadOptions{Follow: true, Length: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w = follow(r)
	appendTo(t, filepath.Join(dir, "log"), "yz")
	w.waitFor(t, "xy")
	if err := <-w.done; !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// Without an inotify instance a followed file is polled.
func TestFollowByPolling(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "log"), "x")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	r.watch = &tailWatch{polls: true}
	w := follow(r)
	w.waitFor(t, "x")
	appendTo(t, filepath.Join(dir, "log"), "y")
	w.waitFor(t, "xy")
	must(t, r.Close())
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestFollowAsUser(t *testing.T) {
	f, dir := userFS(t)
	path := filepath.Join(dir, "log")
	mustWrite(t, path, "")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w := follow(r)
	appendTo(t, path, "x")
	w.waitFor(t, "x")
	must(t, r.Close())
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	wantAllThreadsOwn(t)
}
