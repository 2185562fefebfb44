//go:build linux

package fsops

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRemove(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "keep/precious", "file", "empty/", "tree/a/b/c", "tree/x", "tree/out -> ../keep", "link -> keep", "tree/"+rawName)
	remove := func(path string, opts RemoveOptions) (RemoveResult, error) { return f.Remove(bg(), path, opts) }
	for _, path := range []string{"file", "empty", "link"} {
		if result, err := remove(path, RemoveOptions{}); err != nil || result.Files+result.Dirs != 1 {
			t.Errorf("%s: %+v, %v", path, result, err)
		}
	}
	_, err := remove("tree", RemoveOptions{})
	wantErrno(t, err, "tree", syscall.ENOTEMPTY)
	_, err = remove("none", RemoveOptions{})
	wantErrno(t, err, "none", syscall.ENOENT)
	if _, err := remove("none", RemoveOptions{IgnoreMissing: true}); err != nil {
		t.Errorf("ignored: %v", err)
	}
	for path, errno := range map[string]syscall.Errno{
		"/": syscall.EBUSY, "//": syscall.EBUSY, ".": syscall.EINVAL, "tree/..": syscall.EINVAL, "tree/../": syscall.EINVAL, "tree/x/": syscall.ENOTDIR, "tree/out/": syscall.ENOTDIR,
	} {
		_, err := remove(path, RemoveOptions{Recursive: true})
		wantErrno(t, err, path, errno)
	}
	result, err := remove("tree/", RemoveOptions{Recursive: true})
	if err != nil || result != (RemoveResult{Files: 4, Dirs: 3}) {
		t.Errorf("tree: %+v, %v", result, err)
	}
	wantContent(t, filepath.Join(dir, "keep/precious"), "keep/precious")
}

func TestRemoveGoesOnBehindErrors(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "tree/a/1", "tree/roots/2", "tree/z/3")
	for _, d := range []string{"tree", "tree/a", "tree/z"} {
		if err := os.Chown(filepath.Join(dir, d), int(testIdentity.UID), -1); err != nil {
			t.Fatal(err)
		}
	}
	result, err := f.Remove(bg(), "tree", RemoveOptions{Recursive: true})
	wantErrno(t, err, "tree/roots/2", syscall.EACCES)
	if result != (RemoveResult{Files: 2, Dirs: 2, Failed: 1}) {
		t.Errorf("%+v", result)
	}
	if _, err := os.Stat(filepath.Join(dir, "tree/roots/2")); err != nil {
		t.Error(err)
	}
}
