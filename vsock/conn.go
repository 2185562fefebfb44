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

// newUnixConn takes c over. The send buffer of a unix socket is what is under
// way at all, as there is none to receive into. The kernel's default, 208 KiB
// of which a part is bookkeeping, makes both ends wait for each other twice as
// often in bulk transfers as the most that any user may have; more than that is
// not granted, and no error.
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
