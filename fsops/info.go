//go:build linux

package fsops

import (
	"context"
	"io/fs"
	"time"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// FileInfo is everything that statx(2) says about a file.
type FileInfo struct {
	Name       string    // last element of the path that was asked for, as bytes; "/" for the root
	Mode       uint32    // st_mode: file type and permission bits, as stat(2) has them
	Size       int64     // bytes; for a symbolic link the length of its target
	Blocks     int64     // allocated blocks of 512 bytes; fewer than Size means holes
	BlockSize  uint32    // preferred size of one read or write
	UID, GID   uint32    // owner; names with [Names]
	Atime      time.Time // last access
	Mtime      time.Time // last change of the content
	Ctime      time.Time // last change of the attributes
	Btime      time.Time // creation; zero where the file system does not keep it
	Ino        uint64    // inode number
	Dev        uint64    // device of the file system, as unix.Mkdev makes it
	Rdev       uint64    // for a device node the device it stands for
	Nlink      uint32    // hard links
	LinkTarget string    // for a symbolic link what it holds, where the call reads it and the user may
}

// FileMode returns the mode as package io/fs has it.
func (i *FileInfo) FileMode() fs.FileMode { return goMode(i.Mode) }

// Perm returns the permission bits, 07777 of the mode.
func (i *FileInfo) Perm() uint32 { return i.Mode & permMask }

// IsDir reports a directory.
func (i *FileInfo) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports a regular file.
func (i *FileInfo) IsRegular() bool { return i.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink reports a symbolic link.
func (i *FileInfo) IsSymlink() bool { return i.Mode&unix.S_IFMT == unix.S_IFLNK }

// IsSpecial reports a FIFO, device or socket; see [ErrSpecial].
func (i *FileInfo) IsSpecial() bool { return !i.IsDir() && !i.IsRegular() && !i.IsSymlink() }

// Info returns i as an [fs.FileInfo], whose Sys is i.
func (i *FileInfo) Info() fs.FileInfo { return ioInfo{i} }

type ioInfo struct{ i *FileInfo }

func (o ioInfo) Name() string       { return o.i.Name }
func (o ioInfo) Size() int64        { return o.i.Size }
func (o ioInfo) Mode() fs.FileMode  { return o.i.FileMode() }
func (o ioInfo) ModTime() time.Time { return o.i.Mtime }
func (o ioInfo) IsDir() bool        { return o.i.IsDir() }
func (o ioInfo) Sys() any           { return o.i }

// Stat describes the file that path leads to, through symbolic links.
func (f *FS) Stat(ctx context.Context, path string) (*FileInfo, error) {
	return f.stat(ctx, "stat", path, 0)
}

// Lstat is [FS.Stat] that describes a symbolic link itself, with its target.
func (f *FS) Lstat(ctx context.Context, path string) (*FileInfo, error) {
	return f.stat(ctx, "lstat", path, unix.AT_SYMLINK_NOFOLLOW)
}

func (f *FS) stat(ctx context.Context, op, path string, flags int) (*FileInfo, error) {
	var info *FileInfo
	err := f.withPath(ctx, op, path, func(abs string) error {
		found := new(FileInfo)
		err := describe(found, unix.AT_FDCWD, abs, flags)
		if err == nil {
			info = found
		}
		return err
	})
	return info, err
}

// FSInfo describes a mounted file system, see statfs(2). Sizes are in bytes.
type FSInfo struct {
	Type        int64  // magic number of the kind of file system
	BlockSize   int64  // unit of allocation
	Size        uint64 // whole size
	Free        uint64 // free for root
	Available   uint64 // free for other users
	Files       uint64 // inodes; 0 where the file system does not count them
	FilesFree   uint64
	ReadOnly    bool
	MaxNameSize int64  // bytes in one name
	ID          uint64 // f_fsid
	Flags       uint64 // ST_ flags of the mount
}

// Statfs describes the file system that holds path.
func (f *FS) Statfs(ctx context.Context, path string) (*FSInfo, error) {
	var st unix.Statfs_t
	err := f.withPath(ctx, "statfs", path, func(abs string) error {
		return retry(func() error { return unix.Statfs(abs, &st) })
	})
	if err != nil {
		return nil, err
	}
	return fsInfo(&st), nil
}

func fsInfo(st *unix.Statfs_t) *FSInfo {
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return &FSInfo{
		Type:        st.Type,
		BlockSize:   int64(unit),
		Size:        st.Blocks * unit,
		Free:        st.Bfree * unit,
		Available:   st.Bavail * unit,
		Files:       st.Files,
		FilesFree:   st.Ffree,
		ReadOnly:    st.Flags&unix.ST_RDONLY != 0,
		MaxNameSize: st.Namelen,
		ID:          uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
		Flags:       uint64(st.Flags),
	}
}

// Names resolves owners' names and remembers them. Make one for each request:
// users may be added at any time, and a listing asks for the same few again and
// again. It is not safe for concurrent use; the zero value is ready.
type Names struct{ users, groups map[uint32]string }

// User returns the login name of uid, or "" where it has none.
func (n *Names) User(uid uint32) string { return cachedName(&n.users, uid, passwd.UserName) }

// Group returns the name of gid, or "" where it has none.
func (n *Names) Group(gid uint32) string { return cachedName(&n.groups, gid, passwd.GroupName) }

func cachedName(cache *map[uint32]string, id uint32, lookup func(uint32) string) string {
	if name, ok := (*cache)[id]; ok {
		return name
	}
	if *cache == nil {
		*cache = map[uint32]string{}
	}
	name := lookup(id)
	(*cache)[id] = name
	return name
}

// permMask are the mode bits that chmod(2) sets.
const permMask = 0o7777

// withPath resolves path and calls fn with the user's rights; what it returns
// is wrapped with op and the path as it was given.
func (f *FS) withPath(ctx context.Context, op, path string, fn func(abs string) error) error {
	err := ctx.Err()
	if err != nil {
		return err
	}
	abs, err := f.resolve(path)
	if err == nil {
		err = f.do(func() error { return fn(abs) })
	}
	return pathError(op, path, err)
}

// statAt is statx(2) relative to dirfd; with AT_EMPTY_PATH and "" of dirfd
// itself. The target of a symbolic link is read along.
func statAt(dirfd int, name string, flags int) (*FileInfo, error) {
	info := new(FileInfo)
	if err := statInto(info, dirfd, name, flags); err != nil {
		return nil, err
	}
	if info.IsSymlink() && name != "" {
		target, err := readlinkAt(dirfd, name)
		if err != nil {
			return nil, err
		}
		info.LinkTarget = target
	}
	return info, nil
}

// describe is statAt for a caller that only wants to know: a link that cannot be
// read, as there are in /proc, is described without its target.
func describe(info *FileInfo, dirfd int, name string, flags int) error {
	err := statInto(info, dirfd, name, flags)
	if err == nil && info.IsSymlink() {
		info.LinkTarget, _ = readlinkAt(dirfd, name)
	}
	return err
}

func statFD(fd int) (*FileInfo, error) { return statAt(fd, "", unix.AT_EMPTY_PATH) }

// statInto fills info without reading a link's target.
func statInto(info *FileInfo, dirfd int, name string, flags int) error {
	const mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(dirfd, name, flags|unix.AT_STATX_SYNC_AS_STAT|unix.AT_NO_AUTOMOUNT, mask, &st)
	})
	if err != nil {
		return err
	}
	_, base := splitLast(name)
	if base == "" && name != "" {
		base = "/"
	}
	*info = FileInfo{
		Name:      base,
		Mode:      uint32(st.Mode),
		Size:      int64(st.Size),
		Blocks:    int64(st.Blocks),
		BlockSize: st.Blksize,
		UID:       st.Uid,
		GID:       st.Gid,
		Atime:     statxTime(st.Atime),
		Mtime:     statxTime(st.Mtime),
		Ctime:     statxTime(st.Ctime),
		Ino:       st.Ino,
		Dev:       unix.Mkdev(st.Dev_major, st.Dev_minor),
		Rdev:      unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Nlink:     st.Nlink,
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		info.Btime = statxTime(st.Btime)
	}
	return nil
}

func statxTime(ts unix.StatxTimestamp) time.Time { return time.Unix(ts.Sec, int64(ts.Nsec)) }

// goMode translates st_mode for package io/fs.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}
