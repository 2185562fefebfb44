//go:build linux

package access

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/guestd/guestd/internal/passwd"
)

// Bounds that a [Config] does not change.
const (
	// What became of a grant is remembered for so long, and of so many.
	memory        = 10 * time.Minute
	maxRemembered = 1000
	// All grants together, also those that are only remembered, take about so
	// many bytes: ten thousand ordinary ones do.
	maxGrantBytes = 8 << 20
	// refusalLogInterval is the least time between two log lines about refused
	// clients: one that tries in a loop must not fill the log.
	refusalLogInterval = 10 * time.Second
)

// Config configures a [Store]. The zero value is ready to use.
type Config struct {
	// Logger gets refusals, at most one in ten seconds; nil discards. It never
	// gets a credential, and no user name that could be one.
	Logger *slog.Logger
	// MaxGrants bounds the grants that are held, besides those that are only
	// remembered. 0 is 10,000.
	MaxGrants int
	// MaxConnections bounds the connections that are authenticated at once.
	// 0 is 1,000.
	MaxConnections int
	// MaxHandshakes bounds those that are not yet. 0 is 100.
	MaxHandshakes int
}

// A Store holds grants, connections and the host key. Its methods may be
// called from any goroutine.
type Store struct {
	config  Config
	hostKey ed25519.PrivateKey
	own     []string // how the agent's own user is called; the first for people
	feed    feed

	mu          sync.Mutex
	clock       clock
	closed      bool
	grants      map[string]*entry // by id, also those that are only remembered
	credentials map[credential]*entry
	bytes       int           // what all grants take
	active      int           // grants that have not ended
	ended       []*entry      // in the order of their ends
	due         time.Duration // when the next grant expires, or earlier
	handshakes  map[*Connection]struct{}
	connections map[string]*Connection // authenticated
	refused     uint64
	nextLog     time.Duration
}

// New returns a store without grants, with a host key of its own.
func New(config Config) (*Store, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.MaxGrants = cmp.Or(config.MaxGrants, 10_000)
	config.MaxConnections = cmp.Or(config.MaxConnections, 1_000)
	config.MaxHandshakes = cmp.Or(config.MaxHandshakes, 100)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	number := strconv.Itoa(os.Geteuid())
	own := []string{number}
	if name := passwd.UserName(uint32(os.Geteuid())); name != "" {
		own = []string{name, number}
	} else if number == "0" {
		own = []string{"root", number} // an image without /etc/passwd
	}
	return &Store{
		config:      config,
		hostKey:     key,
		own:         own,
		clock:       clock{now: sinceBoot},
		grants:      make(map[string]*entry),
		credentials: make(map[credential]*entry),
		due:         never,
		handshakes:  make(map[*Connection]struct{}),
		connections: make(map[string]*Connection),
	}, nil
}

// Close refuses everybody and ends every connection with [ErrStoreClosed].
// Watchers get what they have not read yet.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.handshakes {
		c.cancel(ErrStoreClosed)
	}
	for _, c := range s.connections {
		c.cancel(ErrStoreClosed)
	}
	s.feed.close()
	return nil
}

// HostKey is the key by which clients know the guest. It must not be changed.
func (s *Store) HostKey() ed25519.PrivateKey { return s.hostKey }

// Grant adds a grant. One with the id of another that is equal to it gives that
// one back, so that a call may be repeated; an unequal one gives [ErrExists],
// also while the old one is used up or has expired but is still remembered,
// and so does any with the id of a revoked one. The credential of another grant
// gives ErrExists too, unless that one has ended.
// What is malformed gives a *[GrantError]; [ErrTooManyGrants] is what it says.
func (s *Store) Grant(g Grant) (GrantInfo, error) {
	g, cred, keyType, err := g.normalize()
	if err != nil {
		return GrantInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return GrantInfo{}, ErrStoreClosed
	}
	now := s.sweep()
	if old := s.grants[g.ID]; old != nil {
		if old.revoked || !old.credential.equal(cred) || !old.equal(g) {
			return GrantInfo{}, ErrExists
		}
		return s.info(old), nil
	}
	if old := s.credentials[cred]; old != nil && !old.ended {
		return GrantInfo{}, ErrExists
	}
	if s.active >= s.config.MaxGrants || !s.makeRoom(g.size()) {
		return GrantInfo{}, ErrTooManyGrants
	}
	if g.ID == "" {
		g.ID = randomID()
	}
	e := &entry{Grant: g, credential: cred, keyType: keyType, created: now, expires: after(now, g.TTL)}
	e.live = make(map[*Connection]struct{})
	s.grants[g.ID] = e
	s.credentials[cred] = e
	s.bytes += e.size()
	s.active++
	s.due = min(s.due, e.expires)
	s.feed.publish(s.about(e, Event{Kind: EventGranted}))
	return s.info(e), nil
}

// Revoke takes a grant away and ends its connections, also those in the middle
// of their handshake: before it returns their contexts are done, and no other
// one gets in. Revoking twice is not an error; [ErrNotFound] is an unknown id.
func (s *Store) Revoke(id string) (GrantInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.sweep()
	e := s.grants[id]
	if e == nil {
		return GrantInfo{}, ErrNotFound
	}
	if e.revoked {
		return s.info(e), nil
	}
	e.revoked = true
	info := s.info(e)
	for c := range e.live {
		c.cancel(ErrRevoked)
	}
	for c := range s.handshakes {
		if _, ok := c.offered[e]; ok {
			c.cancel(ErrRevoked)
		}
	}
	s.retire(e, now)
	s.feed.publish(s.about(e, Event{Kind: EventRevoked}))
	return info, nil
}

// Grants returns the grants that could still let somebody in or have somebody
// in, oldest first.
func (s *Store) Grants() []GrantInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	list := make([]*entry, 0, s.active)
	for _, e := range s.grants {
		if !e.ended {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.ID, b.ID))
	})
	infos := make([]GrantInfo, len(list))
	for i, e := range list {
		infos[i] = s.info(e)
	}
	return infos
}

// Watch subscribes to events from now on. The caller closes the watcher. The
// error is [ErrTooManyWatchers] or [ErrStoreClosed].
func (s *Store) Watch(opts WatchOptions) (*Watcher, error) { return s.feed.watch(opts) }

// info describes an entry. s.mu is held, as in what follows.
func (s *Store) info(e *entry) GrantInfo {
	permissions := Everything()
	if e.Permissions != nil {
		permissions = *e.Permissions.clone()
	}
	return GrantInfo{
		ID: e.ID, Fingerprint: e.credential.fingerprint(), KeyType: e.keyType,
		User: s.user(e), Label: e.Label, Command: e.Command, Permissions: permissions, Client: e.Client,
		Created: s.clock.wall(e.created), Expires: s.clock.wall(e.expires),
		MaxConnections: e.MaxConnections, Used: e.used, Live: len(e.live), Revoked: e.revoked,
	}
}

// user is the Linux user whom an entry lets in.
func (s *Store) user(e *entry) string { return cmp.Or(e.User, s.own[0]) }

// about fills in what events tell of a grant.
func (s *Store) about(e *entry, event Event) Event {
	event.Grant, event.Label, event.User, event.Client = e.ID, e.Label, s.user(e), e.Client
	return event
}

// sweep ends what has expired, forgets what was remembered long enough, and
// returns the time. There is no timer for it: it comes with the calls that
// would see the difference.
func (s *Store) sweep() time.Duration {
	now := s.clock.now()
	if now >= s.due {
		s.due = never
		for _, e := range s.grants {
			switch {
			case e.ended:
			case now >= e.expires:
				s.retire(e, now)
			default:
				s.due = min(s.due, e.expires)
			}
		}
	}
	for len(s.ended) > 0 && (now >= s.ended[0].forget || len(s.ended) > maxRemembered) {
		s.forgetOldest()
	}
	return now
}

// makeRoom forgets what is only remembered, if it must, and reports whether
// there is room for so many bytes.
func (s *Store) makeRoom(size int) bool {
	for s.bytes+size > maxGrantBytes && len(s.ended) > 0 {
		s.forgetOldest()
	}
	return s.bytes+size <= maxGrantBytes
}

// forgetOldest forgets the grant that ended first.
func (s *Store) forgetOldest() {
	e := s.ended[0]
	s.ended[0] = nil
	s.ended = s.ended[1:]
	s.bytes -= e.size()
	delete(s.grants, e.ID)
	if s.credentials[e.credential] == e {
		delete(s.credentials, e.credential)
	}
}

// retire makes an entry one that is only remembered, if it lets nobody in and
// has nobody in. A revoked one does not wait for its connections: they are on
// their way out.
func (s *Store) retire(e *entry, now time.Duration) {
	if e.ended || e.refusal(now) == nil || len(e.live) > 0 && !e.revoked {
		return
	}
	e.ended = true
	e.forget = after(now, memory)
	s.active--
	s.ended = append(s.ended, e)
}

// randomID is an id that nobody else has: 65 random bits.
func randomID() string { return strings.ToLower(rand.Text()[:13]) }
