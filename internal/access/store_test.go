//go:build linux

package access

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestGrantDefaults(t *testing.T) {
	s, _ := newStore(t, Config{})
	before := time.Now()
	info := mustGrant(t, s, Grant{Key: newKey(t)})
	if info.ID == "" || info.MaxConnections != 1 || info.KeyType != "ssh-ed25519" ||
		!strings.HasPrefix(info.Fingerprint, "SHA256:") || info.Used != 0 || info.Live != 0 {
		t.Errorf("grant is %+v", info)
	}
	if life := info.Expires.Sub(info.Created); life != DefaultTTL {
		t.Errorf("it lives for %v", life)
	}
	if info.Created.Before(before.Add(-2*drift)) || info.Created.After(time.Now().Add(2*drift)) {
		t.Errorf("created at %v, but it is %v", info.Created, time.Now())
	}
	if !info.Permissions.Shell || !info.Permissions.LocalTCP.Allowed {
		t.Errorf("it permits only %+v", info.Permissions)
	}
	if again := s.Grants()[0]; !again.Created.Equal(info.Created) || !again.Expires.Equal(info.Expires) {
		t.Errorf("its times change from %v to %v", info, again)
	}
}

func TestGrantIsRepeatable(t *testing.T) {
	s, clock := newStore(t, Config{})
	g := Grant{
		ID: "web.1", Key: newKey(t), User: "ann", Env: []string{"A=1"}, Label: "laptop",
		Client: netip.MustParseAddrPort("192.0.2.1:4711"), MaxConnections: 1,
	}
	first := mustGrant(t, s, g)
	_ = mustEnter(t, s, "ann", g.Key).Close()
	second := mustGrant(t, s, g)
	if second.Used != 1 || !second.Created.Equal(first.Created) {
		t.Errorf("the second is another grant: %+v", second)
	}
	_, err := enter(t, s, "ann", g.Key)
	wantErr(t, "after the repeated grant", err, ErrUsedUp)

	for name, change := range map[string]func(*Grant){
		"user":        func(g *Grant) { g.User = "bob" },
		"env":         func(g *Grant) { g.Env = nil },
		"label":       func(g *Grant) { g.Label = "" },
		"client":      func(g *Grant) { g.Client = netip.AddrPort{} },
		"life":        func(g *Grant) { g.TTL = time.Hour },
		"connections": func(g *Grant) { g.MaxConnections = -7 },
		"permissions": func(g *Grant) { g.Permissions = &Permissions{Exec: true} },
		"command":     func(g *Grant) { g.Command = "date" },
		"credential":  func(g *Grant) { g.Key = newKey(t) },
	} {
		other := g
		change(&other)
		_, err := s.Grant(other)
		wantErr(t, "another "+name, err, ErrExists)
	}

	same := g
	everything := Everything()
	same.Permissions, same.TTL = &everything, DefaultTTL
	if _, err := s.Grant(same); err != nil {
		t.Errorf("defaults that are written out: %v", err)
	}
	clock.advance(memory + time.Second)
	if info := mustGrant(t, s, g); info.Used != 0 {
		t.Errorf("an id that is forgotten is not free: %+v", info)
	}
}

func TestCredentialBelongsToOneGrant(t *testing.T) {
	s, clock := newStore(t, Config{})
	key, hash := newKey(t), hashOf("secret")
	mustGrant(t, s, Grant{ID: "key", Key: key})
	mustGrant(t, s, Grant{ID: "secret", SecretHash: hash})
	_, err := s.Grant(Grant{ID: "key2", Key: key})
	wantErr(t, "one key in two grants", err, ErrExists)
	_, err = s.Grant(Grant{SecretHash: hash})
	wantErr(t, "one secret in two grants", err, ErrExists)

	// The hash of a key is not a secret, though both are SHA-256.
	mustGrant(t, s, Grant{ID: "confusion", SecretHash: hashOf(string(key))})

	// A key that lets nobody in any more may be granted anew at once.
	clock.advance(DefaultTTL)
	mustGrant(t, s, Grant{ID: "key2", Key: key})
	mustEnter(t, s, s.own[0], key)
	if _, err := s.Revoke("key"); err != nil { // is remembered, and in nobody's way
		t.Error(err)
	}
	wantAlive(t, mustConnect(t, s))
	if live := s.Grants()[0]; live.ID != "key2" || live.Live != 1 {
		t.Errorf("the new grant is %+v", live)
	}
}

func TestRevokedIDStaysTaken(t *testing.T) {
	s, clock := newStore(t, Config{})
	g := Grant{ID: "a", Key: newKey(t)}
	mustGrant(t, s, g)
	info, err := s.Revoke("a")
	if err != nil || !info.Revoked {
		t.Fatalf("revoke: %+v, %v", info, err)
	}
	if again, err := s.Revoke("a"); err != nil || !again.Revoked {
		t.Errorf("revoked twice: %+v, %v", again, err)
	}
	if list := s.Grants(); len(list) != 0 {
		t.Errorf("still there: %+v", list)
	}
	// A repeated call that was under way must not let in whom the host has
	// just thrown out.
	_, err = s.Grant(g)
	wantErr(t, "grant of a revoked id", err, ErrExists)
	_, err = enter(t, s, s.own[0], g.Key)
	wantErr(t, "with a revoked key", err, ErrRevoked)
	clock.advance(memory)
	_, err = enter(t, s, s.own[0], g.Key)
	wantErr(t, "with a forgotten key", err, ErrUnknown)
	_, err = s.Revoke("a")
	wantErr(t, "revoke of a forgotten id", err, ErrNotFound)
}

func TestExpiry(t *testing.T) {
	s, clock := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{ID: "a", Key: key, TTL: time.Minute, MaxConnections: -1})
	mustGrant(t, s, Grant{ID: "b", Key: newKey(t), TTL: -1})
	c := mustEnter(t, s, s.own[0], key)
	clock.advance(time.Minute - 1)
	_ = mustEnter(t, s, s.own[0], key).Close()
	clock.advance(1)
	_, err := enter(t, s, s.own[0], key)
	wantErr(t, "after its time", err, ErrExpired)

	// Who is in stays in, and the grant with them.
	wantAlive(t, c)
	if list := s.Grants(); len(list) != 2 || list[0].Live != 1 || list[0].Used != 2 {
		t.Errorf("grants are %+v", list)
	}
	_ = c.Close()
	clock.advance(1000 * time.Hour)
	if list := s.Grants(); len(list) != 1 || list[0].ID != "b" || !list[0].Expires.IsZero() {
		t.Errorf("grants are %+v", list)
	}
}

func TestExpiryFreesTheRoom(t *testing.T) {
	s, clock := newStore(t, Config{MaxGrants: 2})
	mustGrant(t, s, Grant{Key: newKey(t), TTL: time.Minute})
	mustGrant(t, s, Grant{Key: newKey(t)})
	_, err := s.Grant(Grant{Key: newKey(t)})
	wantErr(t, "a third of two", err, ErrTooManyGrants)
	clock.advance(time.Minute)
	mustGrant(t, s, Grant{Key: newKey(t)})
}

func TestMemoryIsBounded(t *testing.T) {
	s, clock := newStore(t, Config{MaxGrants: 1})
	var ids []string
	for range maxRemembered + 100 {
		info := mustGrant(t, s, Grant{SecretHash: hashOf(fmt.Sprint(len(ids))), TTL: time.Second})
		ids = append(ids, info.ID)
		clock.advance(time.Millisecond)
		if _, err := s.Revoke(info.ID); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Grants()
	if len(s.grants) > maxRemembered || len(s.credentials) > maxRemembered || s.active != 0 {
		t.Errorf("%d grants and %d credentials are kept, %d active", len(s.grants), len(s.credentials), s.active)
	}
	_, err := mustConnect(t, s).AuthenticateSecret("0")
	wantErr(t, "the oldest", err, ErrUnknown)
	_, err = mustConnect(t, s).AuthenticateSecret(fmt.Sprint(len(ids) - 1))
	wantErr(t, "the newest", err, ErrRevoked)
	clock.advance(memory)
	_ = s.Grants()
	if len(s.grants)+len(s.credentials)+len(s.ended)+s.bytes != 0 {
		t.Errorf("%d, %d, %d and %d bytes are left", len(s.grants), len(s.credentials), len(s.ended), s.bytes)
	}
}

func TestLargeGrantsAreBounded(t *testing.T) {
	s, _ := newStore(t, Config{})
	large := func(i int) Grant {
		return Grant{ID: fmt.Sprint("g", i), SecretHash: hashOf(fmt.Sprint(i)), Command: strings.Repeat("x", maxCommandBytes)}
	}
	n := 0
	for ; n < 1000; n++ {
		if _, err := s.Grant(large(n)); err != nil {
			wantErr(t, "when it is full", err, ErrTooManyGrants)
			break
		}
	}
	if s.bytes > maxGrantBytes || n < maxGrantBytes/(2*maxCommandBytes) {
		t.Errorf("%d grants take %d bytes", n, s.bytes)
	}
	// What is only remembered gives way.
	if _, err := s.Revoke("g0"); err != nil {
		t.Fatal(err)
	}
	mustGrant(t, s, large(n))
	_, err := mustConnect(t, s).AuthenticateSecret("0")
	wantErr(t, "the forgotten one", err, ErrUnknown)
}

func TestStoreOwnsItsCopy(t *testing.T) {
	s, _ := newStore(t, Config{})
	g := Grant{ID: "a", Key: newKey(t), Env: []string{"A=1"}, Permissions: &Permissions{LocalTCP: Forwarding{true, []string{"a:1"}}}}
	key := bytes.Clone(g.Key)
	mustGrant(t, s, g)
	g.Key[len(g.Key)-1] ^= 1
	g.Env[0] = "B=2"
	g.Permissions.LocalTCP.Targets[0] = "*:*"
	g.Permissions.Shell = true
	s.Grants()[0].Permissions.LocalTCP.Targets[0] = "*:*"
	got, err := mustConnect(t, s).AuthenticateKey(s.own[0], key)
	if err != nil {
		t.Fatal(err)
	}
	if got.Env[0] != "A=1" || got.Permissions.LocalTCP.Targets[0] != "a:1" || got.Permissions.Shell || !bytes.Equal(got.Key, key) {
		t.Errorf("the store's own grant was changed: %+v", got)
	}
}

func TestMalformedGrants(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	for field, g := range map[string]Grant{
		"Key":                              {},
		"SecretHash":                       {Key: key, SecretHash: hashOf("x")},
		"SecretHash ":                      {SecretHash: []byte("short")},
		"ID":                               {Key: key, ID: "-x"},
		"ID ":                              {Key: key, ID: strings.Repeat("x", 65)},
		"User":                             {Key: key, User: "a:b"},
		"User ":                            {Key: key, User: "a\nb"},
		"Label":                            {Key: key, Label: "\x1b[2J"},
		"Label ":                           {Key: key, Label: "\xff"},
		"Command":                          {Key: key, Command: "a\x00b"},
		"Command ":                         {Key: key, Command: strings.Repeat("x", maxCommandBytes+1)},
		"Env":                              {Key: key, Env: []string{"=x"}},
		"Env ":                             {Key: key, Env: []string{"x"}},
		"Env  ":                            {Key: key, Env: make([]string, 1000)},
		"Permissions.LocalTCP.Targets":     {Key: key, Permissions: &Permissions{LocalTCP: Forwarding{true, []string{"localhost"}}}},
		"Permissions.RemoteTCP.Targets":    {Key: key, Permissions: &Permissions{RemoteTCP: Forwarding{true, []string{"*.example:80"}}}},
		"Permissions.RemoteTCP.Targets ":   {Key: key, Permissions: &Permissions{RemoteTCP: Forwarding{true, []string{"a:080"}}}},
		"Permissions.LocalUnix.Targets":    {Key: key, Permissions: &Permissions{LocalUnix: Forwarding{true, []string{"run/x"}}}},
		"Permissions.RemoteUnix.Targets":   {Key: key, Permissions: &Permissions{RemoteUnix: Forwarding{true, []string{"/run/[x"}}}},
		"Permissions.RemoteUnix.Targets  ": {Key: key, Permissions: &Permissions{RemoteUnix: Forwarding{true, []string{"/run/../x"}}}},
	} {
		_, err := s.Grant(g)
		var bad *GrantError
		if !errors.As(err, &bad) || bad.Field != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if n := len(s.Grants()); n != 0 {
		t.Errorf("%d were granted", n)
	}
}

func TestClosedStore(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key, MaxConnections: 2})
	in, waiting := mustEnter(t, s, s.own[0], key), mustConnect(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, in, ErrStoreClosed)
	wantEnd(t, waiting, ErrStoreClosed)
	_, err := waiting.AuthenticateKey(s.own[0], key)
	wantErr(t, "authentication", err, ErrStoreClosed)
	_, err = s.Grant(Grant{Key: newKey(t)})
	wantErr(t, "grant", err, ErrStoreClosed)
	_, err = s.Connect("")
	wantErr(t, "connection", err, ErrStoreClosed)
	_, err = s.Watch(WatchOptions{})
	wantErr(t, "watch", err, ErrStoreClosed)
}

// A store is what an agent's restart makes anew: nothing of the old one is
// there, and clients do not know its host key.
func TestRestartForgetsEverything(t *testing.T) {
	old, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, old, Grant{Key: key, TTL: -1, MaxConnections: -1})
	s, _ := newStore(t, Config{})
	if len(s.Grants()) != 0 || old.HostKey().Equal(s.HostKey()) {
		t.Error("something is as before")
	}
	_, err := enter(t, s, s.own[0], key)
	wantErr(t, "with a key of before", err, ErrUnknown)
}

func TestWallClockIsFollowed(t *testing.T) {
	moment := time.Hour
	c := clock{now: func() time.Duration { return moment }}
	if d := time.Since(c.wall(moment)); d < -2*drift || d > 2*drift {
		t.Errorf("now is %v ago", d)
	}
	c.offset = c.offset.Add(-24 * time.Hour) // somebody has set the clock
	if d := time.Since(c.wall(moment)); d < -2*drift || d > 2*drift {
		t.Errorf("now is %v ago after the clock was set", d)
	}
	if !c.wall(never).IsZero() {
		t.Error("never is a time")
	}
	if sinceBoot() <= 0 {
		t.Error("CLOCK_BOOTTIME stands still")
	}
}
