//go:build linux

package access

import "errors"

// Errors that this package returns, wrapped or as they are.
var (
	ErrUnknown     = errors.New("no such credential")
	ErrUsedUp      = errors.New("this credential has been used")
	ErrExpired     = errors.New("this credential has expired")
	ErrRevoked     = errors.New("this credential has been revoked")
	ErrKilled      = errors.New("the connection was ended by the host")
	ErrBusy        = errors.New("too many connections")
	ErrStoreClosed = errors.New("the guest is shutting down")

	ErrExists   = errors.New("another grant has this id or credential")
	ErrNotFound = errors.New("not found")

	ErrTooManyGrants   = errors.New("too many grants")
	ErrTooManyWatchers = errors.New("too many watchers")
	ErrWatcherClosed   = errors.New("the watcher is closed")

	errAuthenticated = errors.New("the connection is authenticated already")
)

// A GrantError names the field of a [Grant] that is malformed.
type GrantError struct {
	Field  string // in Go's spelling, for example "SecretHash" or "Permissions.LocalTCP.Targets"
	Reason string
}

// Error names the field and says what is wrong with it.
func (e *GrantError) Error() string { return e.Field + ": " + e.Reason }
