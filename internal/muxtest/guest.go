//go:build linux

package muxtest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/vsock"
)

// guestSendBuffer keeps the kernel's part of what a guest may have on the way
// small compared with Config.Buffer.
const guestSendBuffer = 16 << 10

// Listen returns the guest's listener on port. Its connections carry the
// addresses that a guest sees: the peer is CID 2. It replaces what the port
// was forwarded to before; closing it refuses the port.
func (m *Mux) Listen(port uint32) net.Listener {
	gl := &guestListener{
		m:     m,
		addr:  vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: port},
		queue: make(chan net.Conn, guestListenQueue),
		done:  make(chan struct{}),
	}
	m.setPort(port, gl.dial)
	return gl
}

type guestListener struct {
	m     *Mux
	addr  vsock.Addr
	queue chan net.Conn

	mu     sync.Mutex // held while sending to queue, so that Close leaves nobody in it
	closed bool
	done   chan struct{}
}

func (gl *guestListener) dial(l *link) (*net.UnixConn, error) {
	local := vsock.Addr{Transport: vsock.VM, CID: GuestCID, Port: gl.addr.Port}
	remote := vsock.Addr{Transport: vsock.VM, CID: vsock.CIDHost, Port: l.hostPort}
	ours, theirs, err := guestPair(l, local, remote)
	if err != nil {
		return nil, err
	}
	gl.mu.Lock()
	defer gl.mu.Unlock()
	if !gl.closed {
		select {
		case gl.queue <- theirs:
			return ours, nil
		default:
		}
	}
	_ = ours.Close()
	_ = theirs.Close()
	return nil, syscall.ECONNREFUSED
}

func (gl *guestListener) Accept() (net.Conn, error) {
	select {
	case c := <-gl.queue:
		return c, nil
	case <-gl.done:
		return nil, &net.OpError{Op: "accept", Addr: gl.addr, Err: net.ErrClosed}
	}
}

func (gl *guestListener) Addr() net.Addr { return gl.addr }

func (gl *guestListener) Close() error {
	gl.mu.Lock()
	defer gl.mu.Unlock()
	if gl.closed {
		return nil
	}
	gl.closed = true
	close(gl.done)
	for {
		select {
		case c := <-gl.queue:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// guestConn is the guest's end of a link. It has a guest's addresses, and
// says ECONNRESET after ResetAll as an AF_VSOCK socket does; a unix socket
// would say that the stream has ended.
type guestConn struct {
	*net.UnixConn
	local, remote vsock.Addr
	reset         *atomic.Bool
}

func (c *guestConn) LocalAddr() net.Addr  { return c.local }
func (c *guestConn) RemoteAddr() net.Addr { return c.remote }

func (c *guestConn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	return n, c.translate("read", err)
}

func (c *guestConn) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	return n, c.translate("write", err)
}

func (c *guestConn) translate(op string, err error) error {
	if c.reset.Load() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE)) {
		return &net.OpError{Op: op, Source: c.local, Addr: c.remote, Err: syscall.ECONNRESET}
	}
	return err
}

// ReadFrom and WriteTo hide those of the unix socket, which know no reset.
func (c *guestConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

func (c *guestConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// guestPair makes the two ends of a connection with the guest.
func guestPair(l *link, local, remote vsock.Addr) (ours *net.UnixConn, theirs *guestConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, err = fdConn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	guest, err := fdConn(fds[1])
	if err == nil {
		err = guest.SetWriteBuffer(guestSendBuffer)
	}
	if err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	return ours, &guestConn{UnixConn: guest, local: local, remote: remote, reset: &l.reset}, nil
}

// fdConn takes over fd.
func fdConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "guest")
	defer f.Close() // FileConn keeps a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
