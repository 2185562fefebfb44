//go:build linux

package access

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is told about a connection.
const (
	maxActivities    = 1000 // that are kept, of one connection
	shownActivities  = 32   // that are told
	maxActivityBytes = 256
	maxPeerBytes     = 256
)

// A Connection is one client, from the moment it is accepted. Its methods may
// be called from any goroutine.
type Connection struct {
	store  *Store
	id     string
	peer   string
	ctx    context.Context //nolint:containedctx // a connection has its context as a method
	cancel context.CancelCauseFunc

	received, sent atomic.Uint64
	who            atomic.Pointer[identity] // nil until authenticated

	// Guarded by store.mu.
	offered map[*entry]struct{} // keys that it said it has
	tried   *entry              // the last one whose credential it proved to hold
	found   *entry              // the last one that FindKey or FindSecret returned
	refused bool
	closed  bool

	mu       sync.Mutex
	activity []*string // oldest first
}

// identity is what authentication found out. It never changes.
type identity struct {
	entry *entry
	about Event // the fields that all its events have
	since time.Duration
}

// Connect counts a connection that has just been accepted, before anything is
// known of it. Peer is the transport's name of it. The error says that there
// are too many handshakes ([ErrBusy]) or that the store is closed. The caller
// closes the connection.
func (s *Store) Connect(peer string) (*Connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrStoreClosed
	case len(s.handshakes) >= s.config.MaxHandshakes:
		return nil, ErrBusy
	}
	c := &Connection{store: s, id: randomID(), peer: clip(peer, maxPeerBytes)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	s.handshakes[c] = struct{}{}
	return c, nil
}

// ID returns the connection's id, which no other has, in this run of the agent
// or another.
func (c *Connection) ID() string { return c.id }

// Context ends when the connection must: with the cause [ErrRevoked],
// [ErrKilled], [ErrStoreClosed], or [context.Canceled] after Close.
func (c *Connection) Context() context.Context { return c.ctx }

// OfferKey reports whether it is worth the client's while to sign with a key:
// nil if a grant for this user has it, else [ErrUnknown]. It is for clients'
// queries, and consumes nothing.
//
// It is nil also where the grant lets nobody in any more: AuthenticateKey says
// so, to a client that has proved to hold the key. The error is the cause of the
// connection's end if it must end already.
func (c *Connection) OfferKey(user string, key []byte) error {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	cred := keyCredential(key)
	e := s.find(cred)
	if e == nil || !e.opensTo(user, s.own) {
		return ErrUnknown
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.offered == nil {
		c.offered = make(map[*entry]struct{})
	}
	c.offered[e] = struct{}{}
	return nil
}

// AuthenticateKey lets the user in by a key whose signature has been verified,
// and consumes one use of its grant: of many connections at once, as many win
// as there are uses left. After a FindKey or FindSecret it consumes the grant
// that this has found or none: what was revoked and granted anew in the meantime
// is [ErrRevoked].
//
// The error is one of [ErrUnknown], [ErrUsedUp], [ErrExpired], [ErrRevoked],
// [ErrBusy], or the cause of the connection's end. Only the holder of a credential
// can bring about another one than ErrUnknown, so it may be told to the client.
func (c *Connection) AuthenticateKey(user string, key []byte) (Grant, error) {
	return c.authenticate(keyCredential(key), c.opensTo(user))
}

// FindKey returns the grant by which AuthenticateKey would let the user in at
// this moment, and consumes nothing: what may fail in the guest is better tried
// before. It is for a client that has proved to hold the key. Errors are as for
// AuthenticateKey.
func (c *Connection) FindKey(user string, key []byte) (Grant, error) {
	return c.look(keyCredential(key), c.opensTo(user))
}

// FindSecret is FindKey for AuthenticateSecret.
func (c *Connection) FindSecret(secret string) (Grant, error) {
	return c.look(secretCredential(secret), opensToAll)
}

func (c *Connection) opensTo(user string) func(*entry) bool {
	return func(e *entry) bool { return e.opensTo(user, c.store.own) }
}

func opensToAll(*entry) bool { return true }

// AuthenticateSecret lets in a client that knows the secret of a grant, and
// consumes one use. The time that it takes tells nothing about the secrets there
// are. Errors are as for AuthenticateKey.
func (c *Connection) AuthenticateSecret(secret string) (Grant, error) {
	return c.authenticate(secretCredential(secret), opensToAll)
}

// find is the grant of a credential, if there is one. s.mu is held.
func (s *Store) find(cred credential) *entry {
	// Where the map finds it depends on the hash of what the client sent, which
	// says nothing about the hashes that are there.
	e := s.credentials[cred]
	if e == nil || !e.credential.equal(cred) {
		return nil
	}
	return e
}

// look looks the credential up.
func (c *Connection) look(cred credential, opens func(*entry) bool) (Grant, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	e, err := c.admits(cred, opens, c.store.sweep())
	c.found = e
	if err != nil {
		return Grant{}, err
	}
	return e.clone(), nil
}

// admits is the entry whose credential lets the connection in now. s.mu is held.
func (c *Connection) admits(cred credential, opens func(*entry) bool, now time.Duration) (*entry, error) {
	s := c.store
	e := s.find(cred)
	if e == nil || !opens(e) {
		return nil, ErrUnknown
	}
	c.tried = e
	switch {
	case c.who.Load() != nil:
		return nil, errAuthenticated
	case e.refusal(now) != nil:
		return nil, e.refusal(now)
	case c.ctx.Err() != nil:
		return nil, context.Cause(c.ctx)
	case len(s.connections) >= s.config.MaxConnections:
		return nil, ErrBusy
	}
	return e, nil
}

// authenticate looks the credential up, consumes it and enters the connection
// in one step, so that a Revoke is either before it or finds the connection.
func (c *Connection) authenticate(cred credential, opens func(*entry) bool) (Grant, error) {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.sweep()
	e, err := c.admits(cred, opens, now)
	if err != nil {
		return Grant{}, err
	}
	if c.found != nil && c.found != e {
		return Grant{}, ErrRevoked
	}
	e.used++
	e.live[c] = struct{}{}
	delete(s.handshakes, c)
	c.offered = nil
	s.connections[c.id] = c
	about := s.about(e, Event{Connection: c.id, Peer: c.peer})
	c.who.Store(&identity{entry: e, about: about, since: now})
	about.Kind = EventConnected
	s.feed.publish(about)
	return e.clone(), nil
}

// Refused records why the connection came to nothing. The reason must not hold
// what the client sent. Nothing happens if the connection is authenticated, or
// the second time.
func (c *Connection) Refused(reason error) {
	s := c.store
	event, total, due := c.refuse(reason)
	if due { // without the lock: a log may block
		s.config.Logger.Warn("ssh client refused",
			"peer", c.peer, "grant", event.Grant, "reason", event.Reason, "refused", total)
	}
}

// refuse tells the watchers, and whether it is time for a line in the log.
func (c *Connection) refuse(reason error) (event Event, total uint64, due bool) {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.who.Load() != nil || c.refused || c.closed {
		return Event{}, 0, false
	}
	c.refused = true
	event = Event{Kind: EventRefused, Connection: c.id, Peer: c.peer, Reason: reason.Error()}
	if c.tried != nil {
		event = s.about(c.tried, event)
	}
	s.feed.publish(event)
	s.refused++
	now := s.clock.now()
	if due = now >= s.nextLog; due {
		s.nextLog = now + refusalLogInterval
	}
	return event, s.refused, due
}

// Record tells the watchers what the connection does. It fills in time,
// connection, grant, user, label, client and peer, and never blocks. Texts are
// cut at 4 KiB. Nothing is recorded before the connection is authenticated.
func (c *Connection) Record(e Event) {
	who := c.who.Load()
	if who == nil {
		return
	}
	e.Connection, e.Peer = who.about.Connection, who.about.Peer
	e.Grant, e.Label, e.User, e.Client = who.about.Grant, who.about.Label, who.about.User, who.about.Client
	c.store.feed.publish(e)
}

// Recorded reports whether anybody watches terminals, so that recording costs
// nothing otherwise.
func (c *Connection) Recorded() bool { return c.store.feed.terminals.Load() > 0 }

// Count adds to the bytes that came from and went to the client, as the
// transport counts them.
func (c *Connection) Count(received, sent int) {
	c.received.Add(uint64(max(0, received)))
	c.sent.Add(uint64(max(0, sent)))
}

// Begin lists a session or forward among what the connection does, until end
// is called, which may be called twice. What is as people read it: "shell",
// "exec: make test", "sftp", "forward to localhost:3000". It is cut at 256
// bytes; beyond 1,000 at once nothing is listed.
func (c *Connection) Begin(what string) (end func()) {
	what = clip(what, maxActivityBytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.activity) >= maxActivities {
		return func() {}
	}
	c.activity = append(c.activity, &what)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.Index(c.activity, &what); i >= 0 {
			c.activity = slices.Delete(c.activity, i, i+1)
		}
	}
}

// activities is what Begin named and has not ended; where that is much, the last
// one says how much more.
func (c *Connection) activities() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for i, what := range c.activity {
		if more := len(c.activity) - i; more > 1 && i == shownActivities-1 {
			return append(list, fmt.Sprintf("and %d more", more))
		}
		list = append(list, *what)
	}
	return list
}

// Close ends the connection's account. It may be called twice.
func (c *Connection) Close() error {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	delete(s.handshakes, c)
	c.offered = nil
	if who := c.who.Load(); who != nil {
		delete(s.connections, c.id)
		delete(who.entry.live, c)
		s.retire(who.entry, s.sweep())
		event := who.about
		event.Kind = EventClosed
		event.Received, event.Sent = c.received.Load(), c.sent.Load()
		if cause := context.Cause(c.ctx); cause != nil {
			event.Reason = cause.Error()
		}
		s.feed.publish(event)
	}
	c.cancel(context.Canceled)
	return nil
}

// ConnectionInfo describes an authenticated connection.
type ConnectionInfo struct {
	ID       string
	Grant    string // its id
	Label    string
	User     string         // Linux user
	Client   netip.AddrPort // the grant's; invalid if not known
	Peer     string         // the transport's name of the peer
	Since    time.Time
	Activity []string // what Begin named and has not ended, oldest first; at most 32
	Received uint64   // bytes from the client
	Sent     uint64   // bytes to it
}

// Connections returns those that are authenticated, oldest first.
func (s *Store) Connections() []ConnectionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Connection, 0, len(s.connections))
	for _, c := range s.connections {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Connection) int {
		return cmp.Or(cmp.Compare(a.who.Load().since, b.who.Load().since), cmp.Compare(a.id, b.id))
	})
	infos := make([]ConnectionInfo, len(list))
	for i, c := range list {
		who := c.who.Load()
		infos[i] = ConnectionInfo{
			ID: c.id, Grant: who.about.Grant, Label: who.about.Label, User: who.about.User,
			Client: who.about.Client, Peer: c.peer, Since: s.clock.wall(who.since),
			Activity: c.activities(), Received: c.received.Load(), Sent: c.sent.Load(),
		}
	}
	return infos
}

// Kill ends a connection by its id with [ErrKilled], or gives [ErrNotFound].
func (s *Store) Kill(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.connections[id]
	if c == nil {
		return ErrNotFound
	}
	c.cancel(ErrKilled)
	return nil
}
