//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
