//go:build linux

package fsops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// TestMain fails the run when descriptors or goroutines are left over.
func TestMain(m *testing.M) {
	before := openFDs()
	code := m.Run()
	if code == 0 {
		if err := leaks(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func openFDs() map[string]string {
	fds := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		// The runtime's own come when they are first needed, and stay.
		if err == nil && !strings.HasPrefix(target, "anon_inode:[event") {
			fds[e.Name()] = target
		}
	}
	return fds
}

func leaks(before map[string]string) error {
	var left []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		left = nil
		for fd, target := range openFDs() {
			if before[fd] != target {
				left = append(left, fd+" "+target)
			}
		}
		if len(left) == 0 && runtime.NumGoroutine() <= 2 {
			return nil
		}
	}
	sort.Strings(left)
	stacks := make([]byte, 1<<16)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Errorf("left over: descriptors %q, goroutines:\n%s", left, stacks)
}

// testIdentity has no entry in any passwd file that a test would rely on.
var testIdentity = passwd.Identity{Name: "tester", UID: 61000, GID: 61001, Groups: []uint32{61001, 61002}, Home: "/", Shell: "/bin/sh"}

func newSystem(t testing.TB) *System {
	t.Helper()
	sys, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

// memFS is ownFS on a file system in memory where there is one, for tests that
// make very many files.
func memFS(t testing.TB) (*FS, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fsops-test-")
	if err != nil {
		return ownFS(t)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := newSystem(t).Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

// ownFS is the view of whoever runs the tests, based on a fresh directory.
func ownFS(t testing.TB) (*FS, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := newSystem(t).Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

// userFS is the view of testIdentity, based on a directory of its own.
func userFS(t testing.TB) (*FS, string) {
	t.Helper()
	needRoot(t)
	dir := publicDir(t)
	if err := os.Chown(dir, int(testIdentity.UID), int(testIdentity.GID)); err != nil {
		t.Fatal(err)
	}
	f, err := newSystem(t).As(testIdentity, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

// publicDir is a directory that every user can reach, which t.TempDir is not.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fsops-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(dir); up != "/"; up = filepath.Dir(up) {
		if info, err := os.Stat(up); err != nil || info.Mode().Perm()&0o001 == 0 {
			t.Skipf("SKIP: other users cannot reach %s", up)
		}
	}
	return dir
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: needs root to act as another user")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func ptr[T any](v T) *T { return &v }

func mustWrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s = %.80q, %v; want %.80q", path, got, err, want)
	}
}

// wantErrno checks that err is a path error with the caller's path and errno.
func wantErrno(t testing.TB, err error, path string, errno syscall.Errno) {
	t.Helper()
	var pe *fs.PathError
	if !errors.Is(err, errno) || !errors.As(err, &pe) || pe.Path != path {
		t.Errorf("error %v (%T), want a path error of %q with %v", err, err, path, errno)
	}
}

func statOf(t testing.TB, path string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return &st
}

// eventually polls until ok, which is bounded generously.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func bg() context.Context { return context.Background() }
