//go:build linux

package access

import (
	"net/netip"
	"time"
)

// EventKind says what happened.
type EventKind int

// The kinds of events, and the fields that each has besides the common ones.
const (
	EventConnected    EventKind = iota + 1 // authenticated
	EventRefused                           // Reason
	EventExec                              // Session, Command (as asked for), TTY
	EventShell                             // Session, TTY
	EventSubsystem                         // Session, Command (its name)
	EventSessionEnded                      // Session, Reason (the exit: "exit 1", "signal TERM")
	EventForward                           // Target; Reason if it was refused or failed
	EventListen                            // Target; Reason if it was refused or failed
	EventFile                              // Session, Command (the operation), Target (path), Bytes; Reason if it failed
	EventTerminal                          // Session, Terminal; only for watchers that ask
	EventClosed                            // Reason; Received, Sent
	EventGranted                           // without a connection
	EventRevoked                           // without a connection
)

// An Event is something that happened. Its fields never hold a credential.
type Event struct {
	Kind EventKind
	Time time.Time

	Connection string // id; empty for grants
	Grant      string // id; empty if a client was refused without one
	Label      string
	User       string // Linux user
	Client     netip.AddrPort
	Peer       string

	Session  string // names one channel of the connection, as no other, now or later
	Command  string
	Target   string
	Reason   string
	TTY      bool
	Bytes    uint64
	Received uint64
	Sent     uint64
	Terminal *TerminalEvent

	// Missed is how many events were lost before this one, because the
	// watcher was too slow.
	Missed uint64
}

// A TerminalEvent is what a terminal showed, or its size.
type TerminalEvent struct {
	Start      bool          // the session's first
	At         time.Duration // since the session's start
	Output     []byte        // bytes to the client; nil for a resize
	Rows, Cols uint16        // for a resize and the first
	Term       string        // TERM, in the first
}

// WatchOptions choose what a [Watcher] gets.
type WatchOptions struct {
	Terminals bool // EventTerminal too
	Files     bool // EventFile too
}
