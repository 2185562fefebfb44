//go:build linux

package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// quick is for tests: short, but long enough for a client to have its turn on
// a busy machine.
var quick = keepAlive{after: 200 * time.Millisecond, again: time.Second}

func withKeepAlive(k keepAlive) func(*Server) {
	return func(s *Server) { s.conns.keepAlive = k }
}

// A client that says nothing but answers pings stays, with its calls.
func TestKeepAliveOfAQuietClient(t *testing.T) {
	a := serve(t, Config{}, withKeepAlive(quick))
	x := a.exec(t, startRequest(script("sleep 3; echo out")))
	x.wantExit(t, 0)
	if x.stdout.String() != "out\n" {
		t.Errorf("stdout %q", x.stdout.String())
	}
}

// Nor is a client given up that was not asked, however long the silence is: of a
// machine that was paused the clock may have gone on.
func TestKeepAliveAfterAPause(t *testing.T) {
	cs := &connections{log: slog.New(slog.DiscardHandler), keepAlive: keepAlive{time.Millisecond, time.Minute}}
	near, far := net.Pipe()
	c, _ := cs.accept(near)
	c.heard.Store(-int64(time.Hour))
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
	ping := make([]byte, len(pingFrame))
	if _, err := io.ReadFull(far, ping); err != nil || string(ping) != pingFrame {
		t.Errorf("%q, %v", ping, err)
	}
	if _, err := io.WriteString(far, "answer"); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	reading.Wait()
	cs.running.Wait()
}

// openConnections are the agent's.
func (a *testAgent) openConnections() []*connection {
	a.server.conns.mu.Lock()
	defer a.server.conns.mu.Unlock()
	return slices.Collect(maps.Keys(a.server.conns.open))
}

// A client that answers no ping is pinged again, and its connection closed.
func TestKeepAliveOfAMuteClient(t *testing.T) {
	a := serve(t, Config{}, withKeepAlive(quick))
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	pings := 0
	for {
		frame, err := framer.ReadFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
			pings++
		}
	}
	// On a busy machine the first may come before the agent has read the preface,
	// and does not count then.
	if pings < maxPings {
		t.Errorf("%d pings", pings)
	}
}

// Nor does one live on that reads nothing, while something is being written to
// it or while not.
func TestKeepAliveOfABlockedClient(t *testing.T) {
	cs := &connections{log: slog.New(slog.DiscardHandler), keepAlive: keepAlive{time.Millisecond, time.Millisecond}}
	for _, writing := range []bool{true, false} {
		near, far := net.Pipe()
		c, _ := cs.accept(near)
		if writing {
			if _, err := c.Write([]byte(pingFrame)); err == nil {
				t.Error("written to nobody")
			}
		}
		<-c.gone
		far.Close()
	}
	cs.running.Wait()
}

// A ping is put between frames, wherever gRPC cuts what it writes.
func TestPingsBetweenBulk(t *testing.T) {
	a := serve(t, Config{})
	const size = 32 << 20
	x := a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"head", "-c", "33554432", "/dev/zero"}}))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		open := a.openConnections()
		ticker := time.NewTicker(200 * time.Microsecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				for _, c := range open {
					c.ping(time.Minute)
				}
			}
		}
	}()
	x.wantExit(t, 0)
	close(stop)
	<-stopped
	if x.stdout.Len() != size {
		t.Errorf("%d bytes", x.stdout.Len())
	}
}

// A ping that comes due while something is written is not forgotten, also in the
// moment in which the writing ends.
func TestPingDueDuringAWrite(t *testing.T) {
	cs := &connections{log: slog.New(slog.DiscardHandler), keepAlive: keepAlive{time.Hour, time.Hour}}
	near, far := net.Pipe()
	defer far.Close()
	c, _ := cs.accept(near)
	var working sync.WaitGroup
	for range 1000 {
		working.Go(func() {
			if _, err := c.Write([]byte(pingFrame)); err != nil {
				t.Error(err)
			}
		})
		working.Go(func() { c.ping(time.Minute) })
		_ = far.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(far, make([]byte, 2*len(pingFrame))); err != nil {
			t.Fatalf("a frame and a ping: %v", err)
		}
		working.Wait()
	}
	_ = c.Close()
	cs.running.Wait()
}

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	framer := http2.NewFramer(&stream, nil)
	framer.AllowIllegalWrites = true
	borders := map[int]bool{0: true}
	add := func(err error, border bool) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		borders[stream.Len()] = border
	}
	add(framer.WriteSettings(), true)
	add(framer.WriteSettingsAck(), true)
	add(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("one"), EndHeaders: true}), true)
	add(framer.WriteData(1, false, make([]byte, 70_000)), true)
	add(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("t")}), false)
	add(framer.WriteContinuation(1, false, []byte("w")), false)
	add(framer.WriteContinuation(1, true, []byte("o")), true)
	add(framer.WritePing(false, [8]byte{1}), true)
	add(framer.WriteData(1, true, nil), true)
	content := stream.Bytes()
	for _, piece := range []int{1, 2, 7, 9, 10, 4096, len(content)} {
		var f frames
		for at := 0; at < len(content); {
			if f.between() != borders[at] {
				t.Fatalf("in pieces of %d: at byte %d between is %v", piece, at, f.between())
			}
			n := min(piece, len(content)-at)
			f.wrote(content[at : at+n])
			at += n
		}
		if !f.between() {
			t.Errorf("in pieces of %d: not between frames at the end", piece)
		}
	}
}

func TestPingFrame(t *testing.T) {
	frame, err := http2.NewFramer(nil, bytes.NewReader([]byte(pingFrame))).ReadFrame()
	if ping, ok := frame.(*http2.PingFrame); err != nil || !ok || ping.IsAck() {
		t.Errorf("%v, %v", frame, err)
	}
}
