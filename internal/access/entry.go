//go:build linux

package access

import (
	"slices"
	"time"
)

// entry is a grant in the store, which owns it and guards its fields.
type entry struct {
	Grant      // normalized
	credential credential
	keyType    string
	created    time.Duration // since boot, as expires and forget
	expires    time.Duration // never, where it does not
	used       int
	revoked    bool
	live       map[*Connection]struct{} // authenticated, and not closed yet

	// An ended entry lets nobody in and has nobody in. It is remembered until
	// forget, to tell who holds its credential what became of it.
	ended  bool
	forget time.Duration
}

// refusal is why the entry lets nobody in; nil if it does.
func (e *entry) refusal(now time.Duration) error {
	switch {
	case e.revoked:
		return ErrRevoked
	case e.MaxConnections >= 0 && e.used >= e.MaxConnections:
		return ErrUsedUp
	case now >= e.expires:
		return ErrExpired
	}
	return nil
}

// opensTo reports whether a key's owner may log in under this name.
func (e *entry) opensTo(user string, own []string) bool {
	if e.User == "" {
		return slices.Contains(own, user)
	}
	return e.User == user
}
