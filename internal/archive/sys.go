//go:build linux || darwin

package archive

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// info is what this package uses of stat(2), in one shape for all systems.
type info struct {
	mode     uint32 // with the type bits
	uid, gid uint32
	linked   bool // has more than one name
	dev, ino uint64
	rdev     uint64
	size     int64
	blocks   int64 // of 512 bytes
	mtime    time.Time
}

func (i *info) typ() uint32 { return i.mode & unix.S_IFMT }

// dirent is one name of a directory.
type dirent struct {
	name string
	mode uint32 // type bits as in info.mode; 0 where the file system does not say
}

// The wrappers below retry EINTR, which network and FUSE file systems return
// when a signal, such as the runtime's own for preemption, comes in between.

func openAt(dir int, name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, perm)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openDirAt opens a directory, and never through a link.
func openDirAt(dir int, name string) (int, error) {
	return openDir(dir, name, unix.O_NOFOLLOW)
}

// openDir opens a directory; one that may not be read only for traversal.
func openDir(dir int, name string, flags int) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|flags, 0)
	if errors.Is(err, unix.EACCES) {
		if fd, terr := openAt(dir, name, traverseFlag|unix.O_DIRECTORY|flags, 0); terr == nil {
			return fd, nil
		}
	}
	return fd, err
}

func statFD(fd int) (info, error) {
	var st unix.Stat_t
	for {
		if err := unix.Fstat(fd, &st); !errors.Is(err, unix.EINTR) {
			return fileInfo(&st), err
		}
	}
}

// statAt describes what name is, even a link.
func statAt(dir int, name string) (info, error) {
	var st unix.Stat_t
	for {
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.EINTR) {
			return fileInfo(&st), err
		}
	}
}

func readFD(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, b); !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func writeFD(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// release closes a descriptor that has not been written to: there is nothing
// left to be said by an error.
func release(fd int) { _ = unix.Close(fd) }

// closeFD closes after writing, where NFS and quotas may still report.
func closeFD(fd int) error {
	if err := unix.Close(fd); !errors.Is(err, unix.EINTR) { // EINTR: Linux has closed it all the same
		return err
	}
	return nil
}

// readDir appends the next names of the open directory fd, as many as go into
// buf. It reports false at the end.
func readDir(entries []dirent, fd int, buf []byte) ([]dirent, bool, error) {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return entries, false, err
		}
		return parseDirents(entries, buf[:n]), true, nil
	}
}

// readLinkAt returns a link's target of any length.
func readLinkAt(dir int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// pathError names the operation and the path as package os does.
func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}
