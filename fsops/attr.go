//go:build linux

package fsops

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Attrs are attributes to set. A nil field stays as it is.
type Attrs struct {
	Mode  *uint32    // permission bits, 07777
	UID   *uint32    // owner
	GID   *uint32    // group
	Size  *int64     // truncate or extend to so many bytes
	Atime *time.Time // to the nanosecond; the zero Time means now
	Mtime *time.Time // likewise
}

// SetAttr sets attributes in the only order in which none undoes another: size,
// owner (which clears setuid), mode, times. It stops at the first error.
//
// With noFollow a symbolic link itself is meant: its owner and times can be
// set; a mode gives EOPNOTSUPP, a size EINVAL, as links have none of their own.
func (f *FS) SetAttr(ctx context.Context, path string, attrs Attrs, noFollow bool) error {
	flags := 0
	if noFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	return f.withPath(ctx, "setattr", path, func(abs string) error {
		if attrs.Size != nil {
			if err := truncatePath(abs, *attrs.Size, noFollow); err != nil {
				return err
			}
		}
		return setAttrsAt(unix.AT_FDCWD, abs, attrs, flags)
	})
}

// Chmod sets the permission bits, through symbolic links.
func (f *FS) Chmod(ctx context.Context, path string, mode uint32) error {
	return f.withPath(ctx, "chmod", path, func(abs string) error {
		return chmodAt(unix.AT_FDCWD, abs, mode, 0)
	})
}

// Chown sets owner and group, through symbolic links; nil keeps one.
func (f *FS) Chown(ctx context.Context, path string, uid, gid *uint32) error {
	return f.withPath(ctx, "chown", path, func(abs string) error {
		return chownAt(unix.AT_FDCWD, abs, uid, gid, 0)
	})
}

// Lchown is [FS.Chown] of a symbolic link itself.
func (f *FS) Lchown(ctx context.Context, path string, uid, gid *uint32) error {
	return f.withPath(ctx, "lchown", path, func(abs string) error {
		return chownAt(unix.AT_FDCWD, abs, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chtimes sets the times of access and modification to the nanosecond; nil
// keeps one, the zero Time means now. To set both to now it is enough that the
// user may write the file; everything else is the owner's.
func (f *FS) Chtimes(ctx context.Context, path string, atime, mtime *time.Time, noFollow bool) error {
	flags := 0
	if noFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	return f.withPath(ctx, "chtimes", path, func(abs string) error {
		return chtimesAt(unix.AT_FDCWD, abs, atime, mtime, flags)
	})
}

// Truncate cuts a file to size bytes, or extends it with a hole.
func (f *FS) Truncate(ctx context.Context, path string, size int64) error {
	return f.withPath(ctx, "truncate", path, func(abs string) error {
		return truncatePath(abs, size, false)
	})
}

// AccessMode is what [FS.Access] asks for: any of the bits of access(2).
type AccessMode uint32

// Modes of access. AccessExists is none of the others.
const (
	AccessExists  AccessMode = unix.F_OK
	AccessExecute AccessMode = unix.X_OK
	AccessWrite   AccessMode = unix.W_OK
	AccessRead    AccessMode = unix.R_OK
)

// Access asks the kernel whether the user may do all of mode with path; nil
// says yes. It needs Linux 5.8: access(2) itself would answer for the agent.
func (f *FS) Access(ctx context.Context, path string, mode AccessMode) error {
	return f.withPath(ctx, "access", path, func(abs string) error {
		return retry(func() error {
			return unix.Faccessat2(unix.AT_FDCWD, abs, uint32(mode), unix.AT_EACCESS)
		})
	})
}

// setAttrsAt sets everything but the size.
func setAttrsAt(dirfd int, name string, attrs Attrs, flags int) error {
	if attrs.UID != nil || attrs.GID != nil {
		if err := chownAt(dirfd, name, attrs.UID, attrs.GID, flags); err != nil {
			return err
		}
	}
	if attrs.Mode != nil {
		if err := chmodAt(dirfd, name, *attrs.Mode, flags); err != nil {
			return err
		}
	}
	return chtimesAt(dirfd, name, attrs.Atime, attrs.Mtime, flags)
}

// setAttrsFD is setAttrsAt of an open file; the size is set too.
func setAttrsFD(fd int, attrs Attrs) error {
	if attrs.Size != nil {
		if err := retry(func() error { return unix.Ftruncate(fd, *attrs.Size) }); err != nil {
			return err
		}
	}
	if attrs.UID != nil || attrs.GID != nil {
		if err := retry(func() error { return unix.Fchown(fd, idOrKeep(attrs.UID), idOrKeep(attrs.GID)) }); err != nil {
			return err
		}
	}
	if attrs.Mode != nil {
		if err := retry(func() error { return unix.Fchmod(fd, *attrs.Mode&permMask) }); err != nil {
			return err
		}
	}
	return chtimesAt(fd, "", attrs.Atime, attrs.Mtime, unix.AT_EMPTY_PATH)
}

func truncatePath(abs string, size int64, noFollow bool) error {
	if noFollow {
		info := new(FileInfo)
		if err := statInto(info, unix.AT_FDCWD, abs, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if info.IsSymlink() {
			return unix.EINVAL
		}
	}
	return retry(func() error { return unix.Truncate(abs, size) })
}

// chmodAt sets permission bits. With AT_SYMLINK_NOFOLLOW, which kernels before
// 6.6 do not know here, they are set through a descriptor of whatever is there.
func chmodAt(dirfd int, name string, mode uint32, flags int) error {
	mode &= permMask
	err := retry(func() error { return unix.Fchmodat(dirfd, name, mode, flags) })
	if flags&unix.AT_SYMLINK_NOFOLLOW == 0 || !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	fd, err := openAt(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	info := new(FileInfo)
	if err := statInto(info, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if info.IsSymlink() {
		return unix.EOPNOTSUPP
	}
	return retry(func() error { return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) })
}

func chownAt(dirfd int, name string, uid, gid *uint32, flags int) error {
	return retry(func() error {
		return unix.Fchownat(dirfd, name, idOrKeep(uid), idOrKeep(gid), flags)
	})
}

// idOrKeep translates nil to the -1 that chown(2) takes as "keep".
func idOrKeep(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

func chtimesAt(dirfd int, name string, atime, mtime *time.Time, flags int) error {
	if atime == nil && mtime == nil {
		return nil
	}
	ts := []unix.Timespec{timespec(atime), timespec(mtime)}
	return retry(func() error { return unix.UtimesNanoAt(dirfd, name, ts, flags) })
}

func timespec(t *time.Time) unix.Timespec {
	switch {
	case t == nil:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case t.IsZero():
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	// Not UnixNano, which covers only the years 1678 to 2262.
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
