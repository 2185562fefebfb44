package vsock

import (
	"errors"
	"fmt"
	"net"
)

// CloseWrite ends the sending direction of c and keeps the receiving one, if
// c's transport can. It returns an error that wraps [errors.ErrUnsupported]
// for a hybrid connection, where the end of the host's stream would cut off
// the guest's answer, and for a connection without such a method.
//
// Success means that the end was sent, not that it arrives: a guest's does not
// get through Firecracker or vhost-device-vsock.
func CloseWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return fmt.Errorf("half-close of %T: %w", c, errors.ErrUnsupported)
}

// unixConn is a connection over a unix socket with our addresses. It embeds
// the concrete type, so that splice, sendfile and SyscallConn stay reachable.
type unixConn struct {
	*net.UnixConn
	local, remote Addr
}

// newUnixConn takes ownership of c. A unix socket has no receive buffer: what is
// in flight lies in the sender's. With the kernel's default of 208 KiB, a part of
// it bookkeeping, both ends of a bulk transfer wait for each other twice as often
// as with the most that any user may ask for. The kernel grants no more than
// that, without an error.
func newUnixConn(c *net.UnixConn, local, remote Addr) unixConn {
	_ = c.SetWriteBuffer(DefaultBuffer)
	return unixConn{UnixConn: c, local: local, remote: remote}
}

func (c *unixConn) LocalAddr() net.Addr  { return c.local }
func (c *unixConn) RemoteAddr() net.Addr { return c.remote }

// hybridConn is the host's end of a connection through a VMM's multiplexer.
type hybridConn struct {
	unixConn
}

// CloseWrite refuses: the multiplexer takes the end of one direction for the
// end of both, and what the guest still says is lost without an error.
func (c *hybridConn) CloseWrite() error {
	return &net.OpError{Op: "close", Addr: c.remote, Err: fmt.Errorf("half-close of a hybrid connection: %w", errors.ErrUnsupported)}
}
