//go:build linux

package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestEvents(t *testing.T) {
	s, _ := newStore(t, Config{})
	w := mustWatch(t, s, WatchOptions{})
	key := newKey(t)
	mustGrant(t, s, Grant{ID: "g", Key: key, Label: "laptop", User: "ann", MaxConnections: 2})
	if e := next(t, w, EventGranted); e.Grant != "g" || e.Label != "laptop" || e.User != "ann" || e.Connection != "" || e.Time.IsZero() {
		t.Errorf("granted: %+v", e)
	}

	stranger := mustConnect(t, s)
	stranger.Record(Event{Kind: EventExec, Command: "before authentication"})
	stranger.Refused(ErrUnknown)
	if e := next(t, w, EventRefused); e.Grant != "" || e.User != "" || e.Reason != ErrUnknown.Error() || e.Connection != stranger.ID() {
		t.Errorf("refused: %+v", e)
	}
	_ = stranger.Close()

	c := mustEnter(t, s, "ann", key)
	if e := next(t, w, EventConnected); e.Grant != "g" || e.Connection != c.ID() || e.Peer != "test peer" {
		t.Errorf("connected: %+v", e)
	}
	c.Refused(ErrUnknown) // is none
	c.Record(Event{Kind: EventExec, Session: "1", Command: strings.Repeat("x", 1<<20), Grant: "forged", Missed: 7})
	if e := next(t, w, EventExec); e.Grant != "g" || e.User != "ann" || e.Missed != 0 || len(e.Command) > maxTextBytes {
		t.Errorf("exec: %+v", e)
	}
	c.Record(Event{Kind: EventFile})     // nobody asked for
	c.Record(Event{Kind: EventTerminal}) // these
	c.Count(1, 2)
	if _, err := s.Revoke("g"); err != nil {
		t.Fatal(err)
	}
	next(t, w, EventRevoked)
	_ = c.Close()
	_ = c.Close()
	if e := next(t, w, EventClosed); e.Reason != ErrRevoked.Error() || e.Received != 1 || e.Sent != 2 {
		t.Errorf("closed: %+v", e)
	}

	// The holder of a revoked key is known by it.
	late, err := enter(t, s, "ann", key)
	late.Refused(err)
	if e := next(t, w, EventRefused); e.Grant != "g" || e.Reason != ErrRevoked.Error() {
		t.Errorf("refused: %+v", e)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrStoreClosed) {
		t.Errorf("after the last event: %v", err)
	}
}

func TestWatchersChoose(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key, MaxConnections: -1})
	c := mustEnter(t, s, s.own[0], key)
	if c.Recorded() {
		t.Error("recorded, but nobody watches")
	}
	files, terminals := mustWatch(t, s, WatchOptions{Files: true}), mustWatch(t, s, WatchOptions{Terminals: true})
	if !c.Recorded() {
		t.Error("somebody watches, but it is not recorded")
	}
	output := []byte("hello")
	c.Record(Event{Kind: EventTerminal, Terminal: &TerminalEvent{Output: output}})
	output[0] = 'j' // the buffer is the session's
	c.Record(Event{Kind: EventFile, Command: "open"})
	if e := next(t, files, EventFile); e.Command != "open" {
		t.Errorf("file: %+v", e)
	}
	if e := next(t, terminals, EventTerminal); string(e.Terminal.Output) != "hello" {
		t.Errorf("terminal: %q", e.Terminal.Output)
	}
	_ = terminals.Close()
	_ = terminals.Close()
	if c.Recorded() {
		t.Error("recorded, but nobody watches any more")
	}
	if _, err := terminals.Next(t.Context()); !errors.Is(err, ErrWatcherClosed) {
		t.Errorf("closed watcher: %v", err)
	}
}

// A watcher that does not read loses the oldest, knows how many, and holds
// nobody up.
func TestSlowWatcherIsTold(t *testing.T) {
	s, _ := newStore(t, Config{})
	key := newKey(t)
	mustGrant(t, s, Grant{Key: key})
	c := mustEnter(t, s, s.own[0], key)
	slow := mustWatch(t, s, WatchOptions{Terminals: true})
	const events = 10_000
	for i := range events {
		c.Record(Event{Kind: EventTerminal, Command: fmt.Sprint(i), Terminal: &TerminalEvent{Output: make([]byte, 1000)}})
	}
	if slow.bytes > maxQueueBytes {
		t.Errorf("%d bytes are queued", slow.bytes)
	}
	first := next(t, slow, EventTerminal)
	if first.Missed == 0 || first.Command != fmt.Sprint(first.Missed) {
		t.Errorf("missed %d, but the first is number %s", first.Missed, first.Command)
	}
	for i := first.Missed + 1; i < events; i++ {
		if e := next(t, slow, EventTerminal); e.Missed != 0 || e.Command != fmt.Sprint(i) {
			t.Fatalf("event %s in place of %d, missed %d", e.Command, i, e.Missed)
		}
	}
	// One that alone is too large is told all the same.
	c.Record(Event{Kind: EventTerminal, Terminal: &TerminalEvent{Output: make([]byte, 2*maxQueueBytes)}})
	next(t, slow, EventTerminal)
}

func TestNextWaitsAndIsCancelled(t *testing.T) {
	s, _ := newStore(t, Config{})
	w := mustWatch(t, s, WatchOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	cancel()
	waiting.Wait()
	waiting.Go(func() { next(t, w, EventGranted) })
	mustGrant(t, s, Grant{Key: newKey(t)})
	waiting.Wait()
}

func TestWatchersAreBounded(t *testing.T) {
	s, _ := newStore(t, Config{})
	var last *Watcher
	for range maxWatchers {
		last = mustWatch(t, s, WatchOptions{})
	}
	_, err := s.Watch(WatchOptions{})
	wantErr(t, "one more", err, ErrTooManyWatchers)
	_ = last.Close()
	mustWatch(t, s, WatchOptions{})
}
