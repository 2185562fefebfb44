//go:build linux

package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Of a hundred connections that come at once, a single-use grant lets one in,
// and tells the others what became of their credential.
func TestConsumedOnce(t *testing.T) {
	s, _ := newStore(t, Config{})
	for _, uses := range []int{1, 7} {
		secret := fmt.Sprint("secret of ", uses)
		info := mustGrant(t, s, Grant{SecretHash: hashOf(secret), MaxConnections: uses})
		const clients = 100
		errs := make([]error, clients)
		var conns []*Connection
		for range clients {
			conns = append(conns, mustConnect(t, s))
		}
		start := make(chan struct{})
		var all sync.WaitGroup
		for i, c := range conns {
			all.Go(func() {
				<-start
				_, errs[i] = c.AuthenticateSecret(secret)
			})
		}
		close(start)
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				wantErr(t, "the others", err, ErrUsedUp)
			}
		}
		if won != uses {
			t.Errorf("%d came in, not %d", won, uses)
		}
		for _, g := range s.Grants() {
			if g.ID == info.ID && (g.Used != uses || g.Live != uses) {
				t.Errorf("grant is %+v", g)
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
		if list := s.Grants(); len(list) != 0 {
			t.Errorf("a used-up grant without connections is still there: %+v", list)
		}
	}
}

// While a grant is revoked, connections come in: none of them is left alive.
func TestRevokeMissesNobody(t *testing.T) {
	s, _ := newStore(t, Config{MaxConnections: 100_000, MaxHandshakes: 100_000})
	for round := range 50 {
		key := newKey(t)
		info := mustGrant(t, s, Grant{Key: key, MaxConnections: -1})
		var mu sync.Mutex
		var alive []*Connection
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					c, err := s.Connect("")
					if err == nil {
						err = c.OfferKey(s.own[0], key)
					}
					if err == nil {
						_, err = c.AuthenticateKey(s.own[0], key)
					}
					if err != nil {
						_ = c.Close()
						return
					}
					mu.Lock()
					alive = append(alive, c)
					mu.Unlock()
				}
			})
		}
		if round%2 == 0 {
			mustEnter(t, s, s.own[0], key)
		}
		if _, err := s.Revoke(info.ID); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		for _, c := range alive {
			wantEnd(t, c, ErrRevoked)
			_ = c.Close()
		}
	}
}

func TestRevokeDuringHandshake(t *testing.T) {
	s, _ := newStore(t, Config{})
	key, other := newKey(t), newKey(t)
	mustGrant(t, s, Grant{ID: "a", Key: key})
	mustGrant(t, s, Grant{ID: "b", Key: other})
	offered, stranger := mustConnect(t, s), mustConnect(t, s)
	for _, c := range []*Connection{offered, stranger} {
		if err := c.OfferKey(s.own[0], other); err != nil {
			t.Fatal(err)
		}
	}
	if err := offered.OfferKey(s.own[0], key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke("a"); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, offered, ErrRevoked)
	wantAlive(t, stranger)
	_, err := offered.AuthenticateKey(s.own[0], key)
	wantErr(t, "with the revoked key", err, ErrRevoked)
	_, err = offered.AuthenticateKey(s.own[0], other)
	wantErr(t, "on a connection that must end", err, ErrRevoked)
	if _, err := stranger.AuthenticateKey(s.own[0], other); err != nil {
		t.Error(err)
	}
}

// What was looked at is what is consumed: a credential that was revoked and
// granted anew in between, perhaps to another user, keeps its uses.
func TestGrantedAnewAfterFind(t *testing.T) {
	s, _ := newStore(t, Config{})
	mustGrant(t, s, Grant{ID: "a", SecretHash: hashOf("secret")})
	early, late := mustConnect(t, s), mustConnect(t, s)
	if g, err := early.FindSecret("secret"); err != nil || g.ID != "a" {
		t.Fatal(g.ID, err)
	}
	if _, err := s.Revoke("a"); err != nil {
		t.Fatal(err)
	}
	mustGrant(t, s, Grant{ID: "b", SecretHash: hashOf("secret")})
	_, err := early.AuthenticateSecret("secret")
	wantErr(t, "with what is another grant's now", err, ErrRevoked)
	if g, err := late.AuthenticateSecret("secret"); err != nil || g.ID != "b" {
		t.Errorf("%q, %v", g.ID, err)
	}
	again := mustConnect(t, s)
	_, err = again.FindSecret("secret")
	wantErr(t, "used up", err, ErrUsedUp)
}

// Only who holds a credential is told what became of it.
func TestReasonsAreForTheHolder(t *testing.T) {
	s, clock := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{ID: "used", Key: key, User: "ann"})
	mustGrant(t, s, Grant{ID: "expired", SecretHash: hashOf("expired")})
	mustGrant(t, s, Grant{ID: "revoked", SecretHash: hashOf("revoked")})
	_ = mustEnter(t, s, "ann", key).Close()
	if _, err := s.Revoke("revoked"); err != nil {
		t.Fatal(err)
	}
	clock.advance(DefaultTTL)

	c := mustConnect(t, s)
	if err := c.OfferKey("ann", key); err != nil {
		t.Errorf("the holder is not asked to sign, so cannot be told: %v", err)
	}
	wantErr(t, "another user's name", c.OfferKey("bob", key), ErrUnknown)
	wantErr(t, "a strange key", c.OfferKey("ann", newKey(t)), ErrUnknown)
	wantErr(t, "no key", c.OfferKey("ann", nil), ErrUnknown)
	_, err := c.AuthenticateKey("bob", key)
	wantErr(t, "signed for another user", err, ErrUnknown)
	_, err = c.AuthenticateKey("ann", key)
	wantErr(t, "signed", err, ErrUsedUp)
	_, err = c.AuthenticateSecret("expired")
	wantErr(t, "expired", err, ErrExpired)
	_, err = c.AuthenticateSecret("revoked")
	wantErr(t, "revoked", err, ErrRevoked)
	for _, secret := range []string{"", "Expired", "expired ", string(hashOf("expired")), string(key)} {
		_, err = c.AuthenticateSecret(secret)
		wantErr(t, "a wrong secret", err, ErrUnknown)
	}
}

func TestOwnUser(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key, MaxConnections: -1})
	for _, name := range s.own {
		mustEnter(t, s, name, key)
	}
	for _, name := range []string{"", "nobody-of-this-name", strings.ToUpper(s.own[0]) + "x"} {
		_, err := enter(t, s, name, key)
		wantErr(t, "as "+name, err, ErrUnknown)
	}
	if info := s.Connections()[0]; info.User != s.own[0] {
		t.Errorf("user is %q", info.User)
	}
}

func TestLimits(t *testing.T) {
	s, _ := newStore(t, Config{MaxConnections: 1, MaxHandshakes: 2})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key, MaxConnections: 2})
	first := mustEnter(t, s, s.own[0], key)
	second, err := enter(t, s, s.own[0], key)
	wantErr(t, "a second connection", err, ErrBusy)
	if used := s.Grants()[0].Used; used != 1 {
		t.Errorf("%d uses were consumed", used)
	}
	third := mustConnect(t, s)
	_, err = s.Connect("")
	wantErr(t, "a third handshake", err, ErrBusy)
	_ = third.Close()
	_ = first.Close()
	if _, err := second.AuthenticateKey(s.own[0], key); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	_, err = second.AuthenticateKey(s.own[0], key)
	wantErr(t, "authenticated twice", err, errAuthenticated)
}

func TestKill(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key, MaxConnections: -1})
	one, two := mustEnter(t, s, s.own[0], key), mustEnter(t, s, s.own[0], key)
	waiting := mustConnect(t, s)
	if err := s.Kill(one.ID()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, one, ErrKilled)
	wantAlive(t, two)
	_ = one.Close()
	wantErr(t, "cause after Close", context.Cause(one.Context()), ErrKilled)
	wantErr(t, "one that is gone", s.Kill(one.ID()), ErrNotFound)
	wantErr(t, "one that is not in yet", s.Kill(waiting.ID()), ErrNotFound)
	_ = waiting.Close()
	wantEnd(t, waiting, context.Canceled)
}

func TestConnections(t *testing.T) {
	s, clock := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{ID: "g", Key: key, MaxConnections: -1, Label: "laptop", User: "ann"})
	mustConnect(t, s) // not in yet: not listed
	first := mustEnter(t, s, "ann", key)
	clock.advance(time.Second)
	second := mustEnter(t, s, "ann", key)
	first.Count(10, 20)
	first.Count(1, 2)
	endShell := first.Begin("shell")
	endLong := first.Begin(strings.Repeat("ü", 1000))
	list := s.Connections()
	if len(list) != 2 || list[0].ID != first.ID() || list[1].ID != second.ID() {
		t.Fatalf("connections are %+v", list)
	}
	c := list[0]
	if c.Grant != "g" || c.Label != "laptop" || c.User != "ann" || c.Peer != "test peer" || c.Received != 11 || c.Sent != 22 {
		t.Errorf("connection is %+v", c)
	}
	if len(c.Activity) != 2 || c.Activity[0] != "shell" || len(c.Activity[1]) > maxActivityBytes {
		t.Errorf("it does %q", c.Activity)
	}
	endShell()
	endShell()
	endLong()
	if activity := s.Connections()[0].Activity; len(activity) != 0 {
		t.Errorf("it still does %q", activity)
	}
	for range maxActivities + 10 {
		defer first.Begin("forward")()
	}
	activity := s.Connections()[0].Activity
	if n := len(activity); n != shownActivities || activity[n-1] != "and 969 more" {
		t.Errorf("%d activities are listed, the last is %q", n, activity[n-1])
	}
}

func TestRefusalsAreLoggedWithMeasure(t *testing.T) {
	var log bytes.Buffer
	s, clock := newStore(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), MaxHandshakes: 1000})
	for range 100 {
		mustConnect(t, s).Refused(ErrUnknown)
	}
	clock.advance(refusalLogInterval)
	c := mustConnect(t, s)
	c.Refused(errors.New("another"))
	c.Refused(ErrUnknown)
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "refused=101") {
		t.Errorf("logged %d lines:\n%s", lines, log.String())
	}
}
