//go:build linux

package access

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// patience bounds waits for what must happen.
const patience = time.Minute

// testClock is a clock that tests move.
type testClock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *testClock) read() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

func newStore(t testing.TB, config Config) (*Store, *testClock) {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	clock := &testClock{now: time.Hour}
	s.clock.now = clock.read
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clock
}

// newKey is a fresh public key on the wire.
func newKey(t testing.TB) []byte {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return wireKey(t, public)
}

func wireKey(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key.Marshal()
}

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

func mustGrant(t testing.TB, s *Store, g Grant) GrantInfo {
	t.Helper()
	info, err := s.Grant(g)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func mustConnect(t testing.TB, s *Store) *Connection {
	t.Helper()
	c, err := s.Connect("test peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// enter connects with a key.
func enter(t testing.TB, s *Store, user string, key []byte) (*Connection, error) {
	t.Helper()
	c := mustConnect(t, s)
	_, err := c.AuthenticateKey(user, key)
	return c, err
}

func mustEnter(t testing.TB, s *Store, user string, key []byte) *Connection {
	t.Helper()
	c, err := enter(t, s, user, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// wantEnd checks why a connection must end.
func wantEnd(t testing.TB, c *Connection, cause error) {
	t.Helper()
	select {
	case <-c.Context().Done():
		wantErr(t, "cause of the end", context.Cause(c.Context()), cause)
	default:
		t.Errorf("the connection may go on, instead of ending with %v", cause)
	}
}

func wantAlive(t testing.TB, c *Connection) {
	t.Helper()
	if err := context.Cause(c.Context()); err != nil {
		t.Errorf("the connection must end: %v", err)
	}
}

func mustWatch(t testing.TB, s *Store, opts WatchOptions) *Watcher {
	t.Helper()
	w, err := s.Watch(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// next is the watcher's next event, which has to be of a kind.
func next(t testing.TB, w *Watcher, kind EventKind) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != kind {
		t.Fatalf("event of kind %d, want %d: %+v", e.Kind, kind, e)
	}
	return e
}
