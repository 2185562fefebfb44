//go:build linux

package guestnet

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// unixListener is a unix listener that removes its file.
type unixListener struct {
	net.Listener
	address string
	user    *passwd.Identity
	file    *fileMark // nil for an abstract socket

	closeOnce sync.Once
	closeErr  error
}

// Addr returns the address as it was asked for.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.address, Net: "unix"} }

// Close stops listening and removes the socket's file, if it is still that.
func (l *unixListener) Close() error {
	l.closeOnce.Do(func() {
		if l.file != nil {
			// Before the listener ends: afterwards the file would be stale, and
			// might be replaced by somebody else at any moment.
			_ = as(l.user, func() error {
				if now, err := markOf(l.address); err == nil && now == *l.file {
					return unix.Unlink(l.address)
				}
				return nil
			})
		}
		l.closeErr = l.Listener.Close()
	})
	return l.closeErr
}

// fileMark tells one socket's file from another that took its name. Inode
// numbers are used again at once by many file systems; the time of the last
// change of content, which sockets do not have, then still differs.
type fileMark struct {
	dev, ino uint64
	mtime    unix.Timespec
}

// errNoSocket says that a file is none.
var errNoSocket = errors.New("not a socket")

func markOf(path string) (fileMark, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileMark{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fileMark{}, errNoSocket
	}
	return fileMark{st.Dev, st.Ino, st.Mtim}, nil
}

func listenUnix(spec ListenSpec) (net.Listener, error) {
	if err := checkUnix(spec.Address); err != nil {
		return nil, err
	}
	if spec.Mode == 0 {
		spec.Mode = DefaultSocketMode
	}
	l := &unixListener{address: spec.Address, user: spec.User}
	err := as(spec.User, func() error { return l.open(spec) })
	if err != nil {
		return nil, opError("listen", spec.Address, err)
	}
	return l, nil
}

// open makes the socket. Listening follows binding at once, because until then
// the file looks like one that nobody listens on.
func (l *unixListener) open(spec ListenSpec) error {
	fd, err := newUnixSocket()
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "unix")
	defer file.Close()
	if err := bindUnix(fd, spec); err != nil {
		return os.NewSyscallError("bind", err)
	}
	err = os.NewSyscallError("listen", unix.Listen(fd, unix.SOMAXCONN))
	if err == nil && !isAbstract(spec.Address) {
		err = l.finish(spec)
	}
	if err == nil {
		l.Listener, err = net.FileListener(file)
	}
	if err != nil && !isAbstract(spec.Address) {
		_ = unix.Unlink(spec.Address)
	}
	return err
}

// bindUnix binds, and once more where it removed a file that nobody listens on.
func bindUnix(fd int, spec ListenSpec) error {
	// The mode of an unbound socket is what its file will have, less the umask:
	// there is no moment at which it is open to more than it should be.
	if err := unix.Fchmod(fd, uint32(spec.Mode.Perm())); err != nil {
		return err
	}
	bind := func(sa unix.Sockaddr) error { return unix.Bind(fd, sa) }
	err := sockaddr(spec.Address, bind)
	if errors.Is(err, unix.EADDRINUSE) && !isAbstract(spec.Address) && removeStale(spec.Address) {
		err = sockaddr(spec.Address, bind)
	}
	return err
}

// removeStale removes the file of a socket on which nobody listens, and reports
// whether it did.
func removeStale(path string) bool {
	before, err := markOf(path)
	if err != nil {
		return false
	}
	probe, err := newUnixSocket()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(probe) }()
	err = sockaddr(path, func(sa unix.Sockaddr) error { return connect(probe, sa) })
	if !errors.Is(err, unix.ECONNREFUSED) {
		return false // somebody listens, or it cannot be told
	}
	now, err := markOf(path)
	return err == nil && now == before && unix.Unlink(path) == nil
}

// finish sets what bind(2) could not: the bits that the umask took, and another
// owner. The file is pinned first, as its directory may belong to somebody who
// swaps it; a file with a second name could be another one than ours.
func (l *unixListener) finish(spec ListenSpec) error {
	fd, err := unix.Open(spec.Address, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: spec.Address, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Nlink != 1 {
		return errNoSocket
	}
	l.file = &fileMark{st.Dev, st.Ino, st.Mtim}
	if mode := uint32(spec.Mode.Perm()); st.Mode&0o7777 != mode {
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	if o := spec.Owner; o != nil && (o.UID != st.Uid || o.GID != st.Gid) {
		err := unix.Fchownat(fd, "", int(o.UID), int(o.GID), unix.AT_EMPTY_PATH)
		return os.NewSyscallError("chown", err)
	}
	return nil
}
