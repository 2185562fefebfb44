//go:build linux

package sshd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/guestnet"
)

// Global requests for listeners in the guest, `ssh -R`, and the channels that
// bring what they accept.
const (
	requestListenTCP  = "tcpip-forward" // RFC 4254 §7.1
	requestCancelTCP  = "cancel-tcpip-forward"
	requestListenUnix = "streamlocal-forward@openssh.com" // OpenSSH's PROTOCOL §2.4
	requestCancelUnix = "cancel-streamlocal-forward@openssh.com"
	kindForwardedTCP  = "forwarded-tcpip"
	kindForwardedUnix = "forwarded-streamlocal@openssh.com"
	maxListeners      = 256             // of one connection
	listenTimeout     = 5 * time.Second // an address may be a name, a file system may hang
	maxHanging        = 8               // of one connection, in spite of that
	socketMode        = 0o600           // OpenSSH's StreamLocalBindMask
)

// A place is where a peer has asked for a listener, in its words.
type place struct {
	host string // or the path of a socket
	port uint32 // that it got; 0 for a socket
	unix bool
}

// A listening is what answers at a place: one listener, or one for each address
// of a name.
type listening []net.Listener

func (l listening) close() {
	for _, one := range l {
		_ = one.Close()
	}
}

// tcpPlace is the payload of requests about TCP.
type tcpPlace struct {
	Host string
	Port uint32
}

// listenTCP answers tcpip-forward. The client says on which addresses, as with
// OpenSSH's "GatewayPorts clientspecified": the guest is the client's own.
func (c *conn) listenTCP(ctx context.Context, payload []byte) (bool, []byte) {
	var wanted tcpPlace
	if ssh.Unmarshal(payload, &wanted) != nil || wanted.Port > 65535 {
		return false, nil
	}
	target := hostPort(wanted.Host, wanted.Port)
	if !c.permits.RemoteTCP.PermitsTCP(wanted.Host, wanted.Port) {
		return c.refuseListen(target, reasonNotPermitted)
	}
	l, err := c.openListener(ctx, guestnet.ListenSpec{Network: "tcp", Address: target})
	if err != nil {
		return c.refuseListen(target, describeNetError(err))
	}
	port := uint32(l[0].Addr().(*net.TCPAddr).Port)
	at := place{host: wanted.Host, port: port}
	target = hostPort(wanted.Host, port)
	if reason := c.listen(ctx, at, target, l); reason != "" {
		return c.refuseListen(target, reason)
	}
	if wanted.Port != 0 {
		return true, nil
	}
	return true, ssh.Marshal(struct{ Port uint32 }{port})
}

// errHanging is why a connection that had to give up listening too often may
// not try again.
var errHanging = errors.New("the file system does not answer")

// openListener listens with the rights of the connection's user, who decides by
// them over ports below 1024 and over directories. It returns in time even if
// the file system of a socket does not answer.
func (c *conn) openListener(ctx context.Context, spec guestnet.ListenSpec) (listening, error) {
	if c.hanging.Load() >= maxHanging {
		return nil, errHanging
	}
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	user := c.files.Identity()
	spec.User = &user
	var l listening
	var err error
	opened := make(chan struct{})
	// Nobody can wait for its end where that may never come.
	go func() {
		defer close(opened)
		l, err = guestnet.ListenAll(ctx, spec)
	}()
	select {
	case <-opened:
	case <-ctx.Done():
		c.hanging.Add(1)
		go func() {
			<-opened
			l.close()
			c.hanging.Add(-1)
		}()
		return nil, errHanging
	}
	return l, err
}

// listenUnix answers streamlocal-forward@openssh.com.
func (c *conn) listenUnix(ctx context.Context, payload []byte) (bool, []byte) {
	var wanted struct{ Path string }
	if ssh.Unmarshal(payload, &wanted) != nil {
		return false, nil
	}
	if !c.permits.RemoteUnix.PermitsUnix(wanted.Path) {
		return c.refuseListen(wanted.Path, reasonNotPermitted)
	}
	l, err := c.openListener(ctx, guestnet.ListenSpec{Network: "unix", Address: wanted.Path, Mode: socketMode})
	if err != nil {
		return c.refuseListen(wanted.Path, describeNetError(err))
	}
	if reason := c.listen(ctx, place{host: wanted.Path, unix: true}, wanted.Path, l); reason != "" {
		return c.refuseListen(wanted.Path, reason)
	}
	return true, nil
}

func (c *conn) refuseListen(target, reason string) (bool, []byte) {
	c.account.Record(access.Event{Kind: access.EventListen, Target: target, Reason: reason})
	return false, nil
}

// cancelTCP answers cancel-tcpip-forward.
func (c *conn) cancelTCP(_ context.Context, payload []byte) (bool, []byte) {
	var wanted tcpPlace
	if ssh.Unmarshal(payload, &wanted) != nil {
		return false, nil
	}
	return c.unlisten(place{host: wanted.Host, port: wanted.Port}), nil
}

// cancelUnix answers cancel-streamlocal-forward@openssh.com.
func (c *conn) cancelUnix(_ context.Context, payload []byte) (bool, []byte) {
	var wanted struct{ Path string }
	if ssh.Unmarshal(payload, &wanted) != nil {
		return false, nil
	}
	return c.unlisten(place{host: wanted.Path, unix: true}), nil
}

// listen carries the connections that l accepts to the peer, until the listener
// is canceled or the SSH connection ends. It returns at once. It owns l, and has
// closed it if it returns a reason, which says why it refused.
func (c *conn) listen(ctx context.Context, at place, target string, l listening) (reason string) {
	switch {
	case len(c.listeners) >= maxListeners:
		l.close()
		return "too many listeners"
	case c.listeners[at] != nil:
		// The kernel gives the same place twice where the file of a socket has
		// been removed. The first one would be forgotten, and not be counted.
		l.close()
		return "already listening"
	case !c.descriptors.Take(len(l) * costListener):
		l.close()
		return reasonDescriptors
	case c.listeners == nil:
		c.listeners = make(map[place]listening)
	}
	c.listeners[at] = l
	c.account.Record(access.Event{Kind: access.EventListen, Target: target})
	end := c.account.Begin("listen on " + target)
	stop := context.AfterFunc(ctx, l.close)
	c.tasks.Go(func() {
		var accepting sync.WaitGroup
		for _, one := range l {
			accepting.Go(func() { c.accept(ctx, &c.tasks, one, at.announce) })
		}
		accepting.Wait()
		c.descriptors.Give(len(l) * costListener)
		stop()
		end()
	})
	return ""
}

// unlisten ends a listener; the connections that it has accepted go on.
func (c *conn) unlisten(at place) bool {
	l, ok := c.listeners[at]
	delete(c.listeners, at)
	l.close()
	return ok
}

// accept offers each connection that l accepts to the peer, in a goroutine of
// tasks, until l is closed. announce returns the type of the channel and the data
// to open it with.
func (c *conn) accept(ctx context.Context, tasks *sync.WaitGroup, l net.Listener, announce func(net.Conn) (kind string, payload []byte)) {
	// An error is the listener's end, however it came: nobody shall wait in its
	// queue.
	defer func() { _ = l.Close() }()
	_ = c.server.accept(l, func(other net.Conn) {
		kind, payload := announce(other)
		tasks.Go(func() { c.offer(ctx, kind, payload, other.(carried)) })
	})
}

// announce is the channel that tells the peer of an accepted connection. The
// client finds what it is for by the place, as it has written it.
func (at place) announce(other net.Conn) (kind string, payload []byte) {
	if at.unix {
		return kindForwardedUnix, ssh.Marshal(struct{ Path, Reserved string }{at.host, ""})
	}
	from := other.RemoteAddr().(*net.TCPAddr).AddrPort()
	return kindForwardedTCP, ssh.Marshal(struct {
		Host       string
		Port       uint32
		Originator string
		OriginPort uint32
	}{at.host, at.port, from.Addr().Unmap().String(), uint32(from.Port())})
}
