//go:build linux

package sshd

import (
	"time"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
)

// A recorder reports what one terminal shows to those who watch terminals,
// beginning with its size. It costs nothing while nobody watches.
type recorder struct {
	start  time.Time // of the session's program
	begun  bool      // the session's first event has been told
	active bool      // somebody watched the last time
}

// recordOutput records what has been sent to the client.
func (s *session) recordOutput(data []byte) { s.recordTerminal(data, false) }

// recordSize records a new size of the terminal.
func (s *session) recordSize() { s.recordTerminal(nil, true) }

func (s *session) recordTerminal(data []byte, resized bool) {
	if s.tty == nil {
		return
	}
	watched := s.conn.account.Recorded()
	s.recordMu.Lock()
	defer s.recordMu.Unlock() // events are told in their order
	r := &s.recorder
	if !watched {
		r.active = false
		return
	}
	now := time.Now()
	if r.start.IsZero() {
		r.start = now
	}
	event := access.TerminalEvent{At: now.Sub(r.start), Output: data}
	if !r.active || resized {
		size := s.currentSize()
		event.Rows, event.Cols, event.Term = size.Rows, size.Cols, s.tty.Term
		event.Start = !r.begun
	}
	r.active, r.begun = true, true
	s.conn.account.Record(access.Event{Kind: access.EventTerminal, Session: s.id, Terminal: &event})
}

// currentSize is the terminal's size, as the client said last.
func (s *session) currentSize() proc.Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size != nil {
		return *s.size
	}
	return s.tty.Size
}
