//go:build linux

package fsops

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// RenameMode says what [FS.Rename] does about a file at the new name.
type RenameMode uint

// Modes of renameat2(2). File systems that know only the first give EINVAL.
const (
	RenameReplace   RenameMode = 0                     // take its place
	RenameNoReplace RenameMode = unix.RENAME_NOREPLACE // EEXIST
	RenameExchange  RenameMode = unix.RENAME_EXCHANGE  // both change names
)

// Rename gives a file or directory another name on the same file system;
// another one gives EXDEV, and then it takes a [FS.Copy]. A symbolic link is
// renamed itself.
func (f *FS) Rename(ctx context.Context, from, to string, mode RenameMode) error {
	return f.withTwoPaths(ctx, "rename", from, to, func(absFrom, absTo string) error {
		return unix.Renameat2(unix.AT_FDCWD, absFrom, unix.AT_FDCWD, absTo, uint(mode))
	})
}

// Link gives the file target a second name. A symbolic link is linked itself.
func (f *FS) Link(ctx context.Context, target, path string) error {
	return f.withTwoPaths(ctx, "link", target, path, func(absTarget, abs string) error {
		return unix.Linkat(unix.AT_FDCWD, absTarget, unix.AT_FDCWD, abs, 0)
	})
}

// Symlink makes path a symbolic link that holds target, byte for byte: neither
// a tilde nor the base means anything in it.
func (f *FS) Symlink(ctx context.Context, target, path string) error {
	err := ctx.Err()
	if err != nil {
		return err
	}
	abs, err := f.resolve(path)
	if err == nil {
		err = f.do(func() error {
			return retry(func() error { return unix.Symlinkat(target, unix.AT_FDCWD, abs) })
		})
	}
	return linkError("symlink", target, path, err)
}

// Readlink returns what the symbolic link path holds; EINVAL says that it is
// none.
func (f *FS) Readlink(ctx context.Context, path string) (string, error) {
	var target string
	err := f.withPath(ctx, "readlink", path, func(abs string) (err error) {
		target, err = readlinkAt(unix.AT_FDCWD, abs)
		return err
	})
	return target, err
}

func (f *FS) withTwoPaths(ctx context.Context, op, from, to string, fn func(absFrom, absTo string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	absFrom, err := f.resolve(from)
	if err != nil {
		return pathError(op, from, err)
	}
	absTo, err := f.resolve(to)
	if err != nil {
		return pathError(op, to, err)
	}
	return linkError(op, from, to, f.do(func() error {
		return retry(func() error { return fn(absFrom, absTo) })
	}))
}

// readlinkAt reads a link of any length: the size that lstat gives is 0 in
// /proc, and may be old.
func readlinkAt(dirfd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		var n int
		err := retry(func() (err error) {
			n, err = unix.Readlinkat(dirfd, name, buf)
			return err
		})
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// Mkdir makes a directory with the mode perm; setgid is inherited from the
// parent as the kernel does it.
func (f *FS) Mkdir(ctx context.Context, path string, perm uint32) error {
	return f.withPath(ctx, "mkdir", path, func(abs string) error {
		return mkdirAt(unix.AT_FDCWD, abs, perm)
	})
}

// MkdirAll makes a directory and the missing ones above it, all with the mode
// perm. A directory that exists, also through a symbolic link, is success and
// keeps its mode; anything else in the way is ENOTDIR.
func (f *FS) MkdirAll(ctx context.Context, path string, perm uint32) error {
	return f.withPath(ctx, "mkdir", path, func(abs string) error {
		return mkdirAll(abs, perm)
	})
}

func mkdirAll(abs string, perm uint32) error {
	err := mkdirAt(unix.AT_FDCWD, abs, perm)
	if errors.Is(err, unix.ENOENT) {
		parent, base := splitLast(abs)
		if base == "" || parent == "" {
			return err
		}
		if err := mkdirAll(parent, perm); err != nil {
			return err
		}
		err = mkdirAt(unix.AT_FDCWD, abs, perm)
	}
	if err == nil {
		return nil
	}
	// EEXIST, or EROFS and EACCES from a file system or directory where it is
	// there already.
	info := new(FileInfo)
	if statErr := statInto(info, unix.AT_FDCWD, abs, 0); statErr != nil {
		if errors.Is(err, fs.ErrExist) {
			return statErr // a dangling or looping link
		}
		return err
	}
	if !info.IsDir() {
		return unix.ENOTDIR
	}
	return nil
}

// mkdirAt is mkdirat(2) without the umask's say.
func mkdirAt(dirfd int, name string, perm uint32) error {
	perm &= permMask
	if err := retry(func() error { return unix.Mkdirat(dirfd, name, perm) }); err != nil {
		return err
	}
	info := new(FileInfo)
	if err := statInto(info, dirfd, name, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	want := perm | info.Mode&unix.S_ISGID
	if info.Perm() == want || !info.IsDir() {
		return nil
	}
	return chmodAt(dirfd, name, want, unix.AT_SYMLINK_NOFOLLOW)
}
