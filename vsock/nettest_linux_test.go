package vsock_test

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/guestd/guestd/internal/muxtest"
	"github.com/guestd/guestd/vsock"
)

// nettest.TestConn passes on all transports, through the double of Firecracker
// too. It asks for no half-close, which is the one thing that cannot pass
// there (muxtest's own tests show it); and its only use of Close with data on
// the way is a host's or a guest's whose peer reads, so that the two seconds
// of a cut close are not met.
func TestConn(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T) (dialed, accepted net.Conn, stop func(), err error){
		"unix":        connectUnix,
		"hybrid":      connectHybrid,
		"firecracker": func(t *testing.T) (net.Conn, net.Conn, func(), error) { return connectMux(t, muxtest.Config{}) },
		"split reply": func(t *testing.T) (net.Conn, net.Conn, func(), error) {
			return connectMux(t, muxtest.Config{SplitReply: true})
		},
		"half-closing muxer": func(t *testing.T) (net.Conn, net.Conn, func(), error) {
			return connectMux(t, muxtest.Config{HalfClose: true})
		},
		"guest to host": connectToHost,
	} {
		t.Run(name+"/dialer first", func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) { return connect(t) })
		})
		t.Run(name+"/acceptor first", func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c2, c1, stop, err = connect(t)
				return
			})
		})
	}
}

func connectUnix(t *testing.T) (dialed, accepted net.Conn, stop func(), err error) {
	return connectVia(t, unixAddr(filepath.Join(socketDir(t), "s")), func(l net.Listener) (net.Conn, error) {
		return vsock.Dial(testContext(t), l.Addr().(vsock.Addr))
	})
}

// connectHybrid has a VMM in between that is transparent after its OK.
func connectHybrid(t *testing.T) (dialed, accepted net.Conn, stop func(), err error) {
	conns := make(chan net.Conn, 1)
	path := serve(t, func(c *net.UnixConn) {
		if answerConnect(c) == nil {
			conns <- c
		}
	})
	dialed, err = vsock.Dial(testContext(t), hybridAddr(path))
	if err != nil {
		return nil, nil, nil, err
	}
	accepted = <-conns
	return dialed, accepted, closeBoth(dialed, accepted), nil
}

func connectMux(t *testing.T, cfg muxtest.Config) (dialed, accepted net.Conn, stop func(), err error) {
	m := muxtest.Start(t, cfg)
	l := m.Listen(1024)
	if dialed, err = m.Dialer(1024)(testContext(t)); err != nil {
		return nil, nil, nil, err
	}
	if accepted, err = l.Accept(); err != nil {
		return nil, nil, nil, err
	}
	return dialed, accepted, closeBoth(dialed, accepted), nil
}

// connectToHost is the guest's dial-out.
func connectToHost(t *testing.T) (dialed, accepted net.Conn, stop func(), err error) {
	m := muxtest.Start(t, muxtest.Config{})
	return connectVia(t, m.Addr(1025), func(net.Listener) (net.Conn, error) {
		return m.DialHost(testContext(t), 1025)
	})
}

func connectVia(t *testing.T, a vsock.Addr, dial func(net.Listener) (net.Conn, error)) (dialed, accepted net.Conn, stop func(), err error) {
	l := mustListen(t, a)
	if dialed, err = dial(l); err != nil {
		return nil, nil, nil, err
	}
	if accepted, err = l.Accept(); err != nil {
		return nil, nil, nil, err
	}
	return dialed, accepted, closeBoth(dialed, accepted), nil
}

func closeBoth(a, b net.Conn) func() {
	return func() {
		_ = a.Close()
		_ = b.Close()
	}
}
