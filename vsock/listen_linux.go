package vsock

import (
	"errors"
	"fmt"
	"net"
	"os"

	mdvsock "github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

func vmSupported() error { return nil }

// listenVM binds the CID of the address as it is. The library's Listen would
// ask the kernel for the local CID and bind that, which is wrong after a
// snapshot is cloned and fails while the transport is still loading. The
// options must be set on the listener, from which connections inherit them,
// and the library gives no access to it: hence the socket made here.
func listenVM(a Addr, buffer int) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), a.String())
	defer f.Close() // the library keeps a duplicate
	if buffer > 0 {
		if err := setBuffer(fd, uint64(buffer)); err != nil {
			return nil, err
		}
	}
	port := a.Port
	if port == 0 {
		port = unix.VMADDR_PORT_ANY
	}
	switch err := unix.Bind(fd, &unix.SockaddrVM{CID: a.CID, Port: port}); {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("another process has this port: %w", err)
	case err != nil:
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := mdvsock.FileListener(f)
	if err != nil {
		return nil, err
	}
	return &vmListener{Listener: l, addr: fromLibrary(l.Addr())}, nil
}

// setBuffer raises the maximum first: the kernel clamps the size to it.
func setBuffer(fd int, size uint64) error {
	for _, opt := range []int{unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, unix.SO_VM_SOCKETS_BUFFER_SIZE} {
		if err := unix.SetsockoptUint64(fd, unix.AF_VSOCK, opt, size); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// vmListener is an AF_VSOCK listener with our addresses.
type vmListener struct {
	*mdvsock.Listener
	addr Addr
}

func (l *vmListener) Addr() net.Addr { return l.addr }

// Accept passes over connections that were reset while they waited, which is
// what a snapshot's restore does to all of them: a server would take that
// error for the end of its listener.
func (l *vmListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			return newVMConn(c.(*mdvsock.Conn)), nil
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.ECONNRESET):
		case errors.Is(err, unix.EBADF): // what the library makes of a closed listener
			return nil, opError("accept", l.addr, net.ErrClosed)
		default:
			return nil, acceptError(l.addr, err)
		}
	}
}
