//go:build linux

package fsops

import (
	"errors"

	"golang.org/x/sys/unix"
)

// closeFD closes a descriptor that nothing was written to, or that belongs to a
// failure already: what close(2) says then is of no use.
func closeFD(fd int) { _ = unix.Close(fd) }

// openAt is openat(2), close-on-exec and without becoming a controlling
// terminal's owner.
func openAt(dirfd int, name string, flags int, perm uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dirfd, name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, perm)
		return err
	})
	return fd, err
}

// openPath opens a path of the user's. Where the thread has taken on the user's
// rights, the links below /proc/PID that lead straight to an object are refused
// with ELOOP: the kernel lets every thread of a process through those of its
// own process, so /proc/self/fd would give the user what the agent has open.
func (f *FS) openPath(abs string, flags int, perm uint32) (fd int, err error) {
	if f.creds == nil {
		return openAt(unix.AT_FDCWD, abs, flags, perm)
	}
	return openHow(unix.AT_FDCWD, abs, flags, perm, unix.RESOLVE_NO_MAGICLINKS)
}

// openHow is openat2(2), which needs Linux 5.6.
func openHow(dirfd int, name string, flags int, perm uint32, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: resolve}
	if flags&unix.O_PATH == 0 {
		how.Flags |= unix.O_NOCTTY
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(perm) // openat2 refuses a mode that has no use
	}
	// EAGAIN: something was renamed during a bounded resolution.
	for range 128 {
		err = retry(func() error {
			fd, err = unix.Openat2(dirfd, name, &how)
			return err
		})
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return fd, err
}

// createExcl makes a new file with exactly the mode perm, whatever the umask.
func createExcl(open func(flags int, perm uint32) (int, error), flags int, perm uint32) (fd int, err error) {
	fd, err = open(flags|unix.O_CREAT|unix.O_EXCL, perm&permMask)
	if err != nil {
		return -1, err
	}
	if err := setModeFD(fd, perm); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// setModeFD sets the mode of a new file where the umask took bits away.
func setModeFD(fd int, perm uint32) error {
	info := new(FileInfo)
	if err := statInto(info, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if info.Perm() == perm&permMask {
		return nil
	}
	return retry(func() error { return unix.Fchmod(fd, perm&permMask) })
}
