//go:build linux

package sshd

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
)

// errPeerGone is why the context of a connection ends when the client has
// closed it, or lost it.
var errPeerGone = errors.New("the client is gone")

// errNoDescriptors is why a connection is refused that there is no room for.
var errNoDescriptors = errors.New("too many descriptors are in use")

// A conn is one connection. What is before transport is set before it is
// served and never changes.
type conn struct {
	server  *Server
	account *access.Connection
	backlog *backlog
	wire    *wire

	// Of the handshake, which one goroutine does.
	refused  error // the last refusal that was no secret
	bannered bool

	grant     access.Grant
	permits   access.Permissions
	files     *fsops.FS // the view of the grant's user
	transport *ssh.ServerConn

	sessions    *budget // this connection's part of the server's
	descriptors *budget
	memory      *budget      // of large buffers, in bytes
	hanging     atomic.Int32 // listeners that were given up, but are still being opened

	tasks sync.WaitGroup // all that belongs to the connection

	// Of the goroutine that runs run.
	noMoreSessions bool
	listeners      map[place]listening

	mu          sync.Mutex
	channels    int // open, or being opened by the peer
	lastSession int
}

// serve serves one connection to its end.
func (s *Server) serve(nc net.Conn) {
	account, err := s.config.Access.Connect(nc.RemoteAddr().String())
	if err != nil {
		s.log.Debug("ssh connection refused", "error", err)
		nc.Close()
		return
	}
	defer func() { _ = account.Close() }()
	ctx, cancel := context.WithCancelCause(account.Context())
	defer cancel(nil)

	if !s.descriptors.Take(costConnection) {
		account.Refused(errNoDescriptors)
		nc.Close()
		return
	}
	defer s.descriptors.Give(costConnection)
	b := s.unread.open(func() { cancel(errBacklog) })
	defer s.unread.close(b)
	c := &conn{
		server: s, account: account, backlog: b,
		sessions: s.sessions.half(), descriptors: s.descriptors.half(), memory: s.memory.half(),
	}
	c.wire = newWire(nc, elastic{pool: &s.buffers, memory: c.memory}, &s.ballast, s.config.WriteTimeout, b, account.Count)
	defer func() { _ = c.wire.Close() }()
	// Revoked, killed, shut down: at once, whatever is on its way.
	defer context.AfterFunc(ctx, c.wire.abort)()
	defer context.AfterFunc(s.closing, func() { cancel(access.ErrStoreClosed) })()

	channels, requests, err := c.handshake(ctx, cancel)
	if err != nil {
		account.Refused(c.reason(ctx, err))
		return
	}
	s.log.Debug("ssh connection", "connection", account.ID(), "grant", c.grant.ID)
	c.run(ctx, cancel, channels, requests)
}

// handshake authenticates the client within the time for it.
func (c *conn) handshake(ctx context.Context, cancel context.CancelCauseFunc) (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	grace := time.AfterFunc(c.server.config.LoginGrace, func() { cancel(errLoginGrace) })
	defer grace.Stop()
	identified, err := identify(c.wire, banner(c.server.config.Version))
	if err != nil {
		return nil, nil, err
	}
	offered, err := identified.peekOffer()
	if err != nil {
		return nil, nil, err
	}
	transport, channels, requests, err := ssh.NewServerConn(identified, c.serverConfig(identified.client, offered))
	if err != nil {
		return nil, nil, err
	}
	c.transport = transport
	return channels, requests, nil
}

// run serves an authenticated connection until it ends, and waits for all that
// belongs to it.
func (c *conn) run(ctx context.Context, cancel context.CancelCauseFunc, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	c.tasks.Go(func() { c.keepAlive(ctx, cancel) })
	c.announceHostKeys()
	c.dispatch(ctx, channels, requests)
	// No packet comes any more: the peer has gone, or the context has ended.
	c.server.log.Debug("ssh connection ended", "connection", c.account.ID(), "error", c.transport.Wait())
	cancel(errPeerGone)
	c.tasks.Wait()
	_ = c.transport.Close()
	c.backlog.wait()
}

// dispatch has channels opened and global requests answered until no more come.
func (c *conn) dispatch(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	for channels != nil || requests != nil {
		select {
		case offer, ok := <-channels:
			if !ok {
				channels = nil
				continue
			}
			c.openInTurn(ctx, offer, channels, requests)
		case r, ok := <-requests:
			if !ok {
				requests = nil
				continue
			}
			c.answerInTurn(ctx, r, channels)
		}
	}
}

// openInTurn opens a channel after the requests have been answered that the
// peer sent before it, which are in their queue: a program finds the listeners
// that its client asked for before the session. Nobody can tell those that were
// sent after it; of them only no-more-sessions is not for it.
func (c *conn) openInTurn(ctx context.Context, offer ssh.NewChannel, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	for range len(requests) {
		r := <-requests
		if r.Type == requestNoMoreSessions {
			c.open(ctx, offer)
			c.answerInTurn(ctx, r, channels)
			return
		}
		c.answer(ctx, r)
	}
	c.open(ctx, offer)
}

// answerInTurn answers a global request. Sessions that the peer asked for before
// it said that there would be no more are in their queue.
func (c *conn) answerInTurn(ctx context.Context, r *ssh.Request, channels <-chan ssh.NewChannel) {
	if r.Type == requestNoMoreSessions {
		for range len(channels) {
			c.open(ctx, <-channels)
		}
	}
	c.answer(ctx, r)
}

// nextSession names a session, as no other of the connection.
func (c *conn) nextSession() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastSession++
	return strconv.Itoa(c.lastSession)
}
