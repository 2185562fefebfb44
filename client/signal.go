package client

import (
	"strconv"
	"strings"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Signal is a signal of the guest: a name with or without "SIG", or a number
// of Linux in decimal. It is no syscall.Signal, whose numbers are this
// machine's.
type Signal string

// Common signals.
const (
	SIGHUP  Signal = "HUP"
	SIGINT  Signal = "INT"
	SIGQUIT Signal = "QUIT"
	SIGKILL Signal = "KILL"
	SIGUSR1 Signal = "USR1"
	SIGUSR2 Signal = "USR2"
	SIGTERM Signal = "TERM"
	SIGCONT Signal = "CONT"
	SIGSTOP Signal = "STOP"
)

// SignalScope says which processes get a signal.
type SignalScope int

// The scopes.
const (
	// ScopeGroup is the process group; on a terminal that of the session's
	// leader.
	ScopeGroup SignalScope = iota
	// ScopeProcess is the process alone.
	ScopeProcess
	// ScopeTree is every process that descends from it, also those that left
	// its session.
	ScopeTree
)

func (s SignalScope) toWire() guestdv1.SignalScope {
	switch s {
	case ScopeProcess:
		return guestdv1.SignalScope_SIGNAL_SCOPE_PROCESS
	case ScopeTree:
		return guestdv1.SignalScope_SIGNAL_SCOPE_TREE
	default:
		return guestdv1.SignalScope_SIGNAL_SCOPE_GROUP
	}
}

// toWire returns a number or a name.
func (s Signal) toWire() (number uint32, name string) {
	if n, err := strconv.ParseUint(string(s), 10, 32); err == nil {
		return uint32(n), ""
	}
	return 0, string(s)
}

func signalFromWire(name string, number uint32) Signal {
	if name == "" {
		return Signal(strconv.FormatUint(uint64(number), 10))
	}
	return Signal(strings.TrimPrefix(printable(name), "SIG"))
}
