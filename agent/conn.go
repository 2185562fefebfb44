//go:build linux

package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// connection is one accepted connection and what belongs to it. Handlers get
// it with [connectionOf], hang on to it as a map key, and register what must
// be released with it.
type connection struct {
	net.Conn
	id    uint64
	owner *connections
	made  time.Time
	gone  chan struct{} // closed with the connection

	heard   atomic.Int64 // when the peer sent something last, in nanoseconds since made; 0: never
	pingDue atomic.Int64 // a ping is to be written, within so many nanoseconds; 0: none

	writing sync.Mutex
	frames  frames // that were written

	mu     sync.Mutex
	closed bool
	hooks  []func()
}

// connectionOf returns the connection that carries the call of ctx; nil for a
// context that is not of a call, as in a unit test of a handler.
func connectionOf(ctx context.Context) *connection {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	c, _ := p.AuthInfo.(*connection)
	return c
}

// onClose has f called once, when the connection has ended, in a goroutine
// which the server awaits before it is closed. Calls of this connection may
// still be running then. If the connection has ended already onClose returns
// false and does not call f: release at once what f would have released.
func (c *connection) onClose(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.hooks = append(c.hooks, f)
	return true
}

// Close closes the socket and starts the hooks. gRPC calls it exactly when it
// is through with the transport, at times under its server-wide lock, which is
// why the hooks run in a goroutine of their own.
func (c *connection) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	hooks := c.hooks
	c.hooks = nil
	c.mu.Unlock()

	err := c.Conn.Close()
	if first {
		// Who waits for the keeper, which ends with gone, has waited for the
		// hooks as well: they are under way by then.
		c.owner.ended(c, hooks)
		close(c.gone)
	}
	return err
}

// Read reads from the socket and notes that the peer spoke.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(max(1, int64(time.Since(c.made))))
	}
	return n, err
}

// Write writes what gRPC's transport does, which is frames in any pieces, and
// a ping between two of them if one is due.
func (c *connection) Write(b []byte) (int, error) {
	c.writing.Lock()
	n, err := c.Conn.Write(b)
	c.frames.wrote(b[:n])
	c.writing.Unlock()
	if err == nil {
		c.tryPing() // who made one due meanwhile found the lock held
	}
	return n, err
}

// AuthType makes connection a credentials.AuthInfo, which is how it gets into
// the context of a call: gRPC's other way, a stats.Handler, is called for
// every message of every stream.
func (c *connection) AuthType() string { return "guestd" }

// connections is every connection of a server, with what keeps it alive, and
// the hooks that still run for those that have ended.
type connections struct {
	log       *slog.Logger
	keepAlive keepAlive
	lastID    atomic.Uint64
	running   sync.WaitGroup // hooks and keepers

	mu      sync.Mutex
	open    map[*connection]struct{}
	closing bool
}

// count is the number of open connections.
func (cs *connections) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// accept takes a new connection in; false when the server is closing.
func (cs *connections) accept(conn net.Conn) (*connection, bool) {
	c := &connection{Conn: conn, id: cs.lastID.Add(1), owner: cs, made: time.Now(), gone: make(chan struct{})}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closing {
		return nil, false
	}
	if cs.open == nil {
		cs.open = make(map[*connection]struct{})
	}
	cs.open[c] = struct{}{}
	cs.running.Go(func() { c.keep(cs.keepAlive) })
	return c, true
}

// ended forgets a connection and runs its hooks.
func (cs *connections) ended(c *connection, hooks []func()) {
	cs.mu.Lock()
	delete(cs.open, c)
	cs.mu.Unlock()
	if len(hooks) == 0 {
		return
	}
	cs.running.Go(func() {
		for _, hook := range hooks {
			cs.run(hook)
		}
	})
}

// run runs one hook, whose panic is logged: it must not end the agent, nor
// keep the other hooks from running.
func (cs *connections) run(hook func()) {
	var err error
	defer func() {
		var p *panicError
		if errors.As(err, &p) {
			cs.log.Error("panic at the end of a connection", "panic", p.value, "stack", string(p.stack))
		}
	}()
	defer recoverTo(&err)
	hook()
}

// closeSilent takes no more connections and closes those whose peer never
// sent a byte. gRPC's own stop would wait out their handshake time-out.
func (cs *connections) closeSilent() {
	cs.close(func(c *connection) bool { return c.heard.Load() == 0 })
}

// closeAll takes no more connections and closes every one.
func (cs *connections) closeAll() {
	cs.close(func(*connection) bool { return true })
}

// close takes no more connections and closes those for which which is true.
func (cs *connections) close(which func(*connection) bool) {
	cs.mu.Lock()
	cs.closing = true
	var chosen []*connection
	for c := range cs.open {
		if which(c) {
			chosen = append(chosen, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range chosen {
		_ = c.Close() // nobody is left to be told
	}
}

// listener makes every connection it accepts a [connection].
type listener struct {
	net.Listener
	owner *connections
}

// Accept returns the next connection as a *connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, ok := l.owner.accept(conn)
	if !ok {
		conn.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// connectionCreds hands the *connection on as the peer's AuthInfo. There is no
// handshake: transports are local sockets whose peer the listener has checked.
type connectionCreds struct{}

// ServerHandshake returns conn with itself as its AuthInfo.
func (connectionCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*connection)
	if !ok {
		return nil, nil, net.ErrClosed
	}
	return c, c, nil
}

// ClientHandshake is never called: these are a server's credentials.
func (connectionCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, net.ErrClosed
}

// Info describes the credentials.
func (connectionCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "guestd"}
}

// Clone returns a copy; there is nothing to copy.
func (c connectionCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName has no meaning here.
func (connectionCreds) OverrideServerName(string) error { return nil }
