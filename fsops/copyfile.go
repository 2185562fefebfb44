//go:build linux

package fsops

import (
	"errors"

	"golang.org/x/sys/unix"
)

// file copies anything but a directory to t. flags are added to those that
// open a regular file.
func (c *copier) file(srcDir int, name string, t *target, info *FileInfo, flags int) error {
	if t.existing != nil && t.existing.IsDir() {
		return unix.EISDIR
	}
	if t.existing != nil && c.opts.NoReplace {
		return unix.EEXIST
	}
	if info.IsRegular() {
		return c.regular(srcDir, name, t, flags)
	}
	temp := t.name
	if t.existing != nil {
		temp = partialName(t.name, "")
	}
	var err error
	if info.IsSymlink() {
		err = retry(func() error { return unix.Symlinkat(info.LinkTarget, t.dirfd, temp) })
	} else {
		err = retry(func() error { return unix.Mknodat(t.dirfd, temp, info.Mode, int(info.Rdev)) })
	}
	if err != nil {
		return err
	}
	err = c.nodeAttrs(t.dirfd, temp, info)
	if err == nil && temp != t.name {
		err = t.place(temp, false)
	}
	if err != nil {
		_ = unix.Unlinkat(t.dirfd, temp, 0)
		return err
	}
	if info.IsSymlink() {
		c.result.Links++
	} else {
		c.result.Files++
	}
	return nil
}

// nodeAttrs gives a symbolic link, FIFO or device the attributes of its source.
func (c *copier) nodeAttrs(dirfd int, name string, info *FileInfo) error {
	attrs := Attrs{Atime: &info.Atime, Mtime: &info.Mtime}
	if c.opts.Owner {
		err := chownAt(dirfd, name, &info.UID, &info.GID, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	if !info.IsSymlink() {
		perm := info.Perm() & 0o777
		attrs.Mode = &perm
	}
	return setAttrsAt(dirfd, name, attrs, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) regular(srcDir int, name string, t *target, flags int) error {
	src, err := c.openSource(srcDir, name, flags)
	if err != nil {
		return err
	}
	defer closeFD(src)
	// As it is now: what was listed may be gone, and a FIFO in its place.
	info, err := statFD(src)
	if err != nil {
		return err
	}
	if !info.IsRegular() {
		return ErrSpecial
	}
	dst, temp, _, err := c.fs.openPartial(t, "")
	if err != nil {
		return err
	}
	defer func() { _ = closeWritten(func() error { return unix.Close(dst) }) }()
	size, err := copyData(c.ended, dst, src, info)
	if err == nil {
		err = c.attrs(dst, src, info)
	}
	if err == nil && c.opts.Sync {
		err = retry(func() error { return unix.Fsync(dst) })
	}
	if err == nil {
		err = t.place(temp, c.opts.NoReplace)
	}
	if err != nil {
		_ = unix.Unlinkat(t.dirfd, temp, 0)
		return err
	}
	c.result.Files++
	c.result.Bytes += size
	return nil
}

func (c *copier) openSource(dirfd int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NONBLOCK
	if c.fs.creds == nil {
		return openAt(dirfd, name, flags, 0)
	}
	return openHow(dirfd, name, flags, 0, unix.RESOLVE_NO_MAGICLINKS)
}

// attrs gives the open file or directory dst the attributes of src: owner,
// extended attributes, mode, times, in the order in which none undoes another.
func (c *copier) attrs(dst, src int, info *FileInfo) error {
	if c.opts.Owner {
		err := setAttrsFD(dst, Attrs{UID: &info.UID, GID: &info.GID})
		if errors.Is(err, unix.EPERM) {
			err = setAttrsFD(dst, Attrs{GID: &info.GID})
		}
		if err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	var now FileInfo
	if err := statInto(&now, dst, "", unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	perm := info.Perm()
	if now.UID != info.UID || now.GID != info.GID {
		perm &^= unix.S_ISUID | unix.S_ISGID
	}
	return setAttrsFD(dst, Attrs{Mode: &perm, Atime: &info.Atime, Mtime: &info.Mtime})
}

// copyXattrs copies the extended attributes that can be; those of another
// security model or of the file system's own are not the user's to set.
func copyXattrs(dst, src int) error {
	names, err := xattrNames(func(dest []byte) (int, error) { return unix.Flistxattr(src, dest) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := sized(func(dest []byte) (int, error) { return unix.Fgetxattr(src, name, dest) })
		if err == nil {
			err = retry(func() error { return unix.Fsetxattr(dst, name, value, 0) })
		}
		if err != nil && !isAny(err, unix.ENODATA, unix.EPERM, unix.EACCES, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}
