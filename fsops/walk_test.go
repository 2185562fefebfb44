//go:build linux

package fsops

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func walkPaths(t testing.TB, f *FS, root string, opts WalkOptions) (paths []string, failed []string) {
	t.Helper()
	err := f.Walk(bg(), root, opts, func(entries []WalkEntry) error {
		for _, e := range entries {
			if e.Err != nil {
				failed = append(failed, e.Path)
				continue
			}
			paths = append(paths, e.Path)
			if want := strings.Count(e.Path, "/") + 1; e.Path != "." && e.Depth != want || e.Path == "." && e.Depth != 0 {
				t.Errorf("%s at depth %d", e.Path, e.Depth)
			}
			if e.Entry.Type == 0 || (e.Entry.Info != nil) != opts.Stat {
				t.Errorf("%+v", e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths, failed
}

func TestWalk(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "r/a/x.o", "r/a/y", "r/b/c/d/e", "r/loop -> .", "r/"+rawName, "r/.git/config", "link -> r")
	for _, test := range []struct {
		root string
		opts WalkOptions
		want []string
	}{
		{"r", WalkOptions{}, []string{".", ".git", ".git/config", "a", "a/x.o", "a/y", "b", "b/c", "b/c/d", "b/c/d/e", rawName, "loop"}},
		{"r", WalkOptions{MaxDepth: 1, Stat: true}, []string{".", ".git", "a", "b", rawName, "loop"}},
		{"link", WalkOptions{Exclude: []string{"*.o", ".git", "b/**/d"}, OneFileSystem: true}, []string{".", "a", "a/y", "b", "b/c", rawName, "loop"}},
		{"r/a/y", WalkOptions{Stat: true}, []string{"."}},
	} {
		got, failed := walkPaths(t, f, test.root, test.opts)
		if !slices.Equal(got, test.want) || failed != nil {
			t.Errorf("%s %+v:\n%q, failed %q; want\n%q", test.root, test.opts, got, failed, test.want)
		}
	}
	wantErrno(t, f.Walk(bg(), "none", WalkOptions{}, nil), "none", syscall.ENOENT)
	if err := f.Walk(bg(), "r", WalkOptions{Exclude: []string{"[a"}}, nil); !errors.Is(err, ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}
	stop := errors.New("stop")
	if err := f.Walk(bg(), "r", WalkOptions{}, func([]WalkEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of fn: %v", err)
	}
	ctx, cancel := context.WithCancel(bg())
	if err := f.Walk(ctx, "r", WalkOptions{}, func([]WalkEntry) error { cancel(); return nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestWalkGoesOnBehindErrors(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "a/1", "closed/2", "z/3")
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths, failed := walkPaths(t, f, ".", WalkOptions{})
	if want := []string{".", "a", "a/1", "closed", "z", "z/3"}; !slices.Equal(paths, want) {
		t.Errorf("%q", paths)
	}
	if !slices.Equal(failed, []string{"closed"}) {
		t.Errorf("failed %q", failed)
	}
}

// A tree deeper than PATH_MAX and than the descriptors that are kept open.
func TestDeepTree(t *testing.T) {
	f, dir := memFS(t)
	const depth = 600
	name := strings.Repeat("d", 20)
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknodat(fd, "file", unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
		next, err := openAt(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		closeFD(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	closeFD(fd)
	opened := len(openFDs())
	deepest, count, fds := 0, 0, 0
	err = f.Walk(bg(), ".", WalkOptions{Stat: true}, func(entries []WalkEntry) error {
		fds = max(fds, len(openFDs()))
		for _, e := range entries {
			if e.Err != nil {
				t.Errorf("%d: %v", e.Depth, e.Err)
			}
			deepest, count = max(deepest, e.Depth), count+1
		}
		return nil
	})
	if err != nil || deepest != depth || count != 2*depth+1 {
		t.Errorf("walk: %d entries to depth %d, %v", count, deepest, err)
	}
	if fds > opened+keepOpen+8 {
		t.Errorf("%d descriptors open", fds-opened)
	}
	copied, err := f.Copy(bg(), ".", dir+"-copy", CopyOptions{Recursive: true})
	if err != nil || copied.Dirs != depth+1 || copied.Files != depth {
		t.Errorf("copy: %+v, %v", copied, err)
	}
	for _, root := range []string{dir, dir + "-copy"} {
		removed, err := f.Remove(bg(), root, RemoveOptions{Recursive: true})
		if err != nil || removed.Dirs != depth+1 || removed.Files != depth {
			t.Errorf("remove: %+v, %v", removed, err)
		}
	}
}
