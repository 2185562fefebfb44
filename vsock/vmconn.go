package vsock

import (
	"errors"
	"io"
	"net"
	"syscall"

	mdvsock "github.com/mdlayher/vsock"
)

// vmConn is an AF_VSOCK connection with our addresses.
type vmConn struct {
	*mdvsock.Conn
	local, remote Addr
}

func newVMConn(c *mdvsock.Conn) *vmConn {
	return &vmConn{Conn: c, local: fromLibrary(c.LocalAddr()), remote: fromLibrary(c.RemoteAddr())}
}

func (c *vmConn) LocalAddr() net.Addr  { return c.local }
func (c *vmConn) RemoteAddr() net.Addr { return c.remote }

// Read looks twice at an end of stream. The library says io.EOF for ENOTCONN
// too, which is what the kernel says of a connection that a snapshot's restore
// cut off: a cut must not pass for an orderly end.
func (c *vmConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		if rc, rawErr := c.SyscallConn(); rawErr == nil && isCut(rc) {
			err = &net.OpError{Op: "read", Source: c.local, Addr: c.remote, Err: syscall.ECONNRESET}
		}
	}
	return n, err
}

// Write gives a proper error where the library says io.EOF.
func (c *vmConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "write", Source: c.local, Addr: c.remote, Err: syscall.EPIPE}
	}
	return n, err
}

// isCut reports whether a socket at its end is no longer connected. An orderly
// end reads as no bytes for ever.
func isCut(rc syscall.RawConn) bool {
	var err error
	controlErr := rc.Control(func(fd uintptr) { _, err = syscall.Read(int(fd), make([]byte, 1)) })
	return controlErr == nil && errors.Is(err, syscall.ENOTCONN)
}

// fromLibrary turns an address of the AF_VSOCK library into ours. The library
// has handed out nil addresses: that gives an Addr without a number rather
// than a nil interface.
func fromLibrary(a net.Addr) Addr {
	vm, ok := a.(*mdvsock.Addr)
	if !ok || vm == nil {
		return Addr{Transport: VM, CID: CIDAny}
	}
	return Addr{Transport: VM, CID: vm.ContextID, Port: vm.Port}
}
