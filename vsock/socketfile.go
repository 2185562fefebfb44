package vsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// backlog is the length of a listener's queue; the kernel cuts it down to
// net.core.somaxconn. A short one turns a burst of connects away.
const backlog = 4096

// lockTimeout bounds the wait for another process that is making its socket in
// the same directory, a matter of microseconds.
const lockTimeout = 5 * time.Second

// fileListener listens on a socket file that it made and removes.
type fileListener struct {
	*net.UnixListener
	addr Addr

	path  string      // absolute: the working directory may change
	file  fs.FileInfo // what bind made at path
	close func() error
}

// listenFile makes the socket file path and listens on it. Looking at what is
// there, replacing it and making the new file are one step for everybody who
// does it here: a lock on the directory is held meanwhile, or two agents that
// start at once could both take the other's socket for a dead one.
func listenFile(ctx context.Context, a Addr, path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(ctx, filepath.Dir(abs))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	ul, err := bindFile(path, mode)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(abs)
	if err != nil {
		_ = ul.Close()
		return nil, err
	}
	l := &fileListener{UnixListener: ul, addr: a, path: abs, file: info}
	l.close = sync.OnceValue(l.removeAndClose)
	return l, nil
}

// lockDir takes the lock of a directory and returns its release. A directory
// that may not be read goes without.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	release := func() { _ = d.Close() } // closing ends the lock
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return release, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return release, nil // this file system has no locks
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			release()
			return nil, fmt.Errorf("another process holds the lock of %s: %w", dir, err)
		}
	}
}

// removeStale makes room for a socket at path. It removes nothing but a socket
// of this user on which nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is a file that is not a socket: %w", fs.ErrExist)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("there is a socket of uid %d: %w", st.Uid, syscall.EADDRINUSE)
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("another process listens there: %w", syscall.EADDRINUSE)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove stale socket: %w", err)
		}
		return nil
	default: // a full queue, a datagram socket: somebody has it
		return fmt.Errorf("a socket is there and answers %w: %w", errors.Unwrap(err), syscall.EADDRINUSE)
	}
}

// bindFile binds, sets the mode, and only then listens: until listen(2) every
// connect is refused, so nobody gets in while the file has the umask's mode.
func bindFile(path string, mode fs.FileMode) (*net.UnixListener, error) {
	// The portable form of SOCK_CLOEXEC.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // FileListener keeps a duplicate
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	l, err := startListening(f, fd, path, mode)
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return l, nil
}

func startListening(f *os.File, fd int, path string, mode fs.FileMode) (*net.UnixListener, error) {
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

func (l *fileListener) Addr() net.Addr { return l.addr }

func (l *fileListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, acceptError(l.addr, err)
	}
	uc := newUnixConn(c, l.addr, Addr{Transport: l.addr.Transport})
	if l.addr.Transport == Hybrid {
		return &hybridConn{uc}, nil
	}
	return &uc, nil
}

// Close stops listening and removes the socket file. A second Close does
// nothing and returns what the first returned.
func (l *fileListener) Close() error { return l.close() }

// removeAndClose removes first and closes then: as long as we listen, no other
// agent takes the file for a dead one and puts its own in its place, so the
// look and the removal need no lock.
func (l *fileListener) removeAndClose() error {
	var removeErr error
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.file) {
		removeErr = os.Remove(l.path)
	}
	if err := l.UnixListener.Close(); err != nil {
		return opError("close", l.addr, err)
	}
	if removeErr != nil {
		return opError("close", l.addr, removeErr)
	}
	return nil
}
