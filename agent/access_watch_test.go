//go:build linux

package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// sessionWatch is a WatchSessions that is ready.
type sessionWatch struct {
	grpc.ServerStreamingClient[guestdv1.WatchSessionsResponse]
}

func (a *accessAgent) watch(t testing.TB, req *guestdv1.WatchSessionsRequest) *sessionWatch {
	t.Helper()
	stream, err := a.WatchSessions(testContext(t), req)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetReady() == nil {
		t.Fatalf("first: %v, %v", first, err)
	}
	return &sessionWatch{stream}
}

// next is the next event, which has to be of a type.
func (w *sessionWatch) next(t testing.TB, kind guestdv1.SessionEventType) *guestdv1.SessionEvent {
	t.Helper()
	resp, err := w.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetEvent().GetType() != kind {
		t.Fatalf("event %v, want %v", resp, kind)
	}
	return resp.GetEvent()
}

func TestWatchSessions(t *testing.T) {
	a := serveAccess(t)
	w := a.watch(t, &guestdv1.WatchSessionsRequest{Files: true})
	blob, line := newUserKey(t)
	g := keyGrant(line)
	g.Id, g.User, g.Label, g.ClientAddress = "g", "ann", "laptop", "192.0.2.1:4711"
	a.grant(t, g)
	if e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_GRANTED); e.GrantId != "g" || e.SessionId != "" {
		t.Errorf("granted: %v", e)
	}
	c, _ := a.enter(t, "ann", blob)
	e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_CONNECTED)
	if e.SessionId != c.ID() || e.GrantId != "g" || e.User != "ann" || e.Label != "laptop" || e.ClientAddress != g.ClientAddress ||
		e.Peer != "vsock 2:1234" || time.Since(e.Time.AsTime()) > time.Hour {
		t.Errorf("connected: %v", e)
	}
	c.Record(access.Event{Kind: access.EventExec, Session: "1", Command: "make \xff", TTY: true})
	c.Record(access.Event{Kind: access.EventTerminal, Session: "1"}) // not asked for
	c.Record(access.Event{Kind: access.EventFile, Session: "1", Command: "open", Target: "/x\xe4", Bytes: 5, Reason: "ENOENT"})
	if e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_EXEC); e.Command != `make \xFF` || !e.Tty || e.Channel != "1" {
		t.Errorf("exec: %v", e)
	}
	if e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_FILE); e.Target != `/x\xE4` || e.Bytes != 5 || e.Reason != "ENOENT" {
		t.Errorf("file: %v", e)
	}
	c.Count(3, 4)
	_ = c.Close()
	if e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_CLOSED); e.ReceivedBytes != 3 || e.SentBytes != 4 {
		t.Errorf("closed: %v", e)
	}

	late, err := a.store.Connect("vsock 2:5")
	if err != nil {
		t.Fatal(err)
	}
	_, err = late.AuthenticateKey("ann", blob)
	late.Refused(err)
	_ = late.Close()
	if e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_REFUSED); e.GrantId != "g" || !strings.Contains(e.Reason, "used") {
		t.Errorf("refused: %v", e)
	}

	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = w.Recv()
	wantFailure(t, err, codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
}

// Every kind of event has a type on the wire.
func TestEventTypes(t *testing.T) {
	for kind := access.EventConnected; kind <= access.EventRevoked; kind++ {
		if eventTypes[kind] == 0 {
			t.Errorf("kind %d has none", kind)
		}
	}
	if len(eventTypes) != int(access.EventRevoked) {
		t.Errorf("%d types for %d kinds", len(eventTypes), access.EventRevoked)
	}
}

func TestTerminalIsWatched(t *testing.T) {
	a := serveAccess(t)
	w := a.watch(t, &guestdv1.WatchSessionsRequest{Terminals: true})
	blob, line := newUserKey(t)
	a.grant(t, keyGrant(line))
	c, _ := a.enter(t, a.store.Grants()[0].User, blob)
	if !c.Recorded() {
		t.Error("it is not recorded")
	}
	c.Record(access.Event{Kind: access.EventTerminal, Session: "1", Terminal: &access.TerminalEvent{
		Start: true, Rows: 30, Cols: 100, Term: "xterm",
	}})
	c.Record(access.Event{Kind: access.EventTerminal, Session: "1", Terminal: &access.TerminalEvent{
		At: 2 * time.Second, Output: []byte("a\xff"),
	}})
	w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_GRANTED)
	w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_CONNECTED)
	e := w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_TERMINAL).Terminal
	if !e.Start || e.Size.GetRows() != 30 || e.Size.GetColumns() != 100 || e.Term != "xterm" || len(e.Output)+len(e.Cast) != 0 {
		t.Errorf("start: %v", e)
	}
	e = w.next(t, guestdv1.SessionEventType_SESSION_EVENT_TYPE_TERMINAL).Terminal
	if string(e.Output) != "a\xff" || e.Offset.AsDuration() != 2*time.Second || e.Size != nil {
		t.Errorf("output: %v", e)
	}
}

// newCastTest returns what makes the lines of a recording, for one connection.
func newCastTest(t *testing.T) func(access.Event) string {
	t.Helper()
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	recordings := newCasts(store)
	return func(e access.Event) string {
		e.Time = time.Unix(1_700_000_000, 0).Add(10 * time.Second)
		if e.Terminal != nil {
			e.Kind = access.EventTerminal
		}
		m := eventMessage(&e)
		recordings.record(&e, m)
		if m.Terminal != nil && (m.Terminal.Output != nil || m.Terminal.Size != nil || m.Terminal.Term != "") {
			t.Errorf("told twice: %v", m)
		}
		return string(m.GetTerminal().GetCast())
	}
}

func TestCast(t *testing.T) {
	record := newCastTest(t)
	terminal := func(channel string, e access.TerminalEvent) string {
		return record(access.Event{Connection: "c", Session: channel, Terminal: &e})
	}
	var file strings.Builder
	add := func(line, want string) {
		t.Helper()
		if line != want {
			t.Errorf("line %q, want %q", line, want)
		}
		file.WriteString(line)
	}
	add(terminal("1", access.TerminalEvent{Start: true, Rows: 30, Cols: 100, Term: "xterm"}),
		`{"version":2,"width":100,"height":30,"timestamp":1700000010,"env":{"TERM":"xterm"}}`+"\n")
	add(terminal("1", access.TerminalEvent{At: 1500 * time.Millisecond, Output: []byte("a<\"\x1b[0m\r\n")}),
		`[1.5,"o","a<\"\u001b[0m\r\n"]`+"\n")
	add(terminal("1", access.TerminalEvent{At: 2 * time.Second, Rows: 40, Cols: 120}), `[2,"r","120x40"]`+"\n")

	// Characters that are cut in two are put together again.
	add(terminal("1", access.TerminalEvent{At: 3 * time.Second, Output: []byte("x\xe2\x82")}), `[3,"o","x"]`+"\n")
	add(terminal("1", access.TerminalEvent{At: 4 * time.Second, Output: []byte("\xac€")[:1]}), `[4,"o","€"]`+"\n")
	add(terminal("1", access.TerminalEvent{At: 5 * time.Second, Output: []byte("\xf0")}), "")
	add(terminal("1", access.TerminalEvent{At: 5 * time.Second, Output: []byte("\x9f\x98")}), "")
	add(terminal("1", access.TerminalEvent{At: 5 * time.Second, Output: []byte("\x80")}), `[5,"o","😀"]`+"\n")
	add(terminal("1", access.TerminalEvent{At: 6 * time.Second, Output: []byte("\xff\xfe!")}), `[6,"o","\ufffd\ufffd!"]`+"\n")

	decoder := json.NewDecoder(strings.NewReader(file.String()))
	for decoder.More() {
		var line any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCastOfATerminalThatWasThere(t *testing.T) {
	record := newCastTest(t)
	got := record(access.Event{Connection: "c", Session: "1", Terminal: &access.TerminalEvent{At: time.Minute, Output: []byte("x")}})
	want := `{"version":2,"width":80,"height":24,"timestamp":1700000010}` + "\n" + `[0,"o","x"]` + "\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got = record(access.Event{Connection: "c", Session: "1", Terminal: &access.TerminalEvent{At: time.Minute + time.Second, Output: []byte("y")}})
	if got != `[1,"o","y"]`+"\n" {
		t.Errorf("%q", got)
	}
}

func TestCastsAreForgotten(t *testing.T) {
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	recordings := newCasts(store)
	record := func(e access.Event) { recordings.record(&e, eventMessage(&e)) }
	start := func(connection, channel string) {
		record(access.Event{Kind: access.EventTerminal, Connection: connection, Session: channel, Terminal: &access.TerminalEvent{Start: true}})
	}
	for i := range 10 * maxEndedCasts {
		channel := string(rune('a' + i))
		start("c", channel)
		record(access.Event{Kind: access.EventSessionEnded, Connection: "c", Session: channel})
		record(access.Event{Kind: access.EventSessionEnded, Connection: "c", Session: channel})
	}
	if n := len(recordings.all); n > maxEndedCasts+1 || recordings.ended != n {
		t.Errorf("%d recordings are kept, %d ended", n, recordings.ended)
	}
	start("d", "1")
	record(access.Event{Kind: access.EventClosed, Connection: "c"})
	if len(recordings.all) != 1 || recordings.ended != 0 {
		t.Errorf("%d recordings are kept, %d ended", len(recordings.all), recordings.ended)
	}
	// That d was closed is among what was missed.
	record(access.Event{Kind: access.EventGranted, Missed: 1})
	if len(recordings.all) != 0 {
		t.Errorf("%d recordings are kept", len(recordings.all))
	}
}
