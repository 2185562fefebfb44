//go:build linux

package fsops

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// target is where a file is to be: a name in an open directory, so that it
// stays the same place while an upload runs and directories are renamed.
type target struct {
	dirfd    int // O_PATH
	name     string
	existing *FileInfo // what has the name, nil for nothing
}

// openTarget finds the place that abs means for a file to be made: symbolic
// links at the end are followed, also one to where nothing is yet, unless
// noFollow is set.
func (f *FS) openTarget(abs string, noFollow bool) (*target, error) {
	dir, name, err := splitTarget(abs)
	if err != nil {
		return nil, err
	}
	t := &target{name: name}
	if t.dirfd, err = f.openPath(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, err
	}
	for range maxLinks + 1 {
		err := t.look()
		if err != nil || t.existing == nil || !t.existing.IsSymlink() || noFollow {
			if err != nil {
				t.close()
				return nil, err
			}
			return t, nil
		}
		if err := f.followTarget(t); err != nil {
			t.close()
			return nil, err
		}
	}
	t.close()
	return nil, unix.ELOOP
}

// splitTarget cuts a path before its last element, which must be able to name
// a file.
func splitTarget(p string) (dir, name string, err error) {
	dir, name = splitLast(p)
	if name == "" || name == "." || name == ".." || strings.HasSuffix(p, "/") {
		return "", "", unix.EISDIR
	}
	return dir, name, nil
}

// followTarget goes to where the symbolic link t points to.
func (f *FS) followTarget(t *target) error {
	dir, name, err := splitTarget(t.existing.LinkTarget)
	if err != nil {
		return err
	}
	t.name = name
	if dir == "" {
		return nil
	}
	resolve := uint64(0)
	if f.creds != nil {
		resolve = unix.RESOLVE_NO_MAGICLINKS
	}
	fd, err := openHow(t.dirfd, dir, unix.O_PATH|unix.O_DIRECTORY, 0, resolve)
	if err != nil {
		return err
	}
	closeFD(t.dirfd)
	t.dirfd = fd
	return nil
}

// look describes what has the name now.
func (t *target) look() error {
	info, err := statAt(t.dirfd, t.name, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		info, err = nil, nil
	}
	t.existing = info
	return err
}

func (t *target) close() { closeFD(t.dirfd) }

// place gives the file called temp the target's name.
func (t *target) place(temp string, noReplace bool) error {
	if !noReplace {
		return retry(func() error { return unix.Renameat(t.dirfd, temp, t.dirfd, t.name) })
	}
	err := retry(func() error {
		return unix.Renameat2(t.dirfd, temp, t.dirfd, t.name, unix.RENAME_NOREPLACE)
	})
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// A file system without RENAME_NOREPLACE: link(2) replaces nothing either.
	if err := retry(func() error { return unix.Linkat(t.dirfd, temp, t.dirfd, t.name, 0) }); err != nil {
		return err
	}
	return retry(func() error { return unix.Unlinkat(t.dirfd, temp, 0) })
}

// syncDir makes the name durable. A directory that the user may write but not
// read cannot be opened for it: then the whole file system is synced.
func (t *target) syncDir(filefd int) error {
	fd, err := openAt(t.dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.EACCES) {
		return unix.Syncfs(filefd)
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return retry(func() error { return unix.Fsync(fd) })
}
