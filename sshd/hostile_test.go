//go:build linux

package sshd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// A valve is a client's connection whose reading can be stopped.
type valve struct {
	net.Conn
	mu     sync.Mutex
	opened *sync.Cond
	shut   bool
	ended  bool
}

func (v *valve) Read(b []byte) (int, error) {
	v.mu.Lock()
	for v.shut && !v.ended {
		v.opened.Wait()
	}
	v.mu.Unlock()
	return v.Conn.Read(b)
}

// stop stops it until the end.
func (v *valve) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = true
}

func (v *valve) Close() error {
	v.mu.Lock()
	v.ended = true
	v.opened.Broadcast()
	v.mu.Unlock()
	return v.Conn.Close()
}

// stopping is a client whose reading can be stopped.
func (l *lab) stopping(g access.Grant) (*valve, *ssh.Client) {
	l.t.Helper()
	nc, err := net.Dial("unix", l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	v := &valve{Conn: nc}
	v.opened = sync.NewCond(&v.mu)
	conn, channels, requests, err := ssh.NewClientConn(v, "guest", &ssh.ClientConfig{
		User: l.grantSecret(g), HostKeyCallback: ssh.FixedHostKey(l.server.hostKey.PublicKey()),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	c := ssh.NewClient(conn, channels, requests)
	l.t.Cleanup(func() { _ = c.Close() })
	return v, c
}

// mute connects a client that has stopped to read and to answer.
func (l *lab) mute(g access.Grant) *valve {
	l.t.Helper()
	v, _ := l.stopping(g)
	v.stop()
	return v
}

// A client that takes nothing is disconnected, and holds up nobody else.
func TestClientThatDoesNotRead(t *testing.T) {
	l := newLab(t, func(c *Config) { c.WriteTimeout = time.Second })
	v, c := l.stopping(access.Grant{})
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdout = io.Discard
	if err := s.Start("exec yes"); err != nil {
		t.Fatal(err)
	}
	v.stop()
	if got := run(t, l.ssh(access.Grant{}, "echo served")); got.stdout != "served\n" {
		t.Errorf("another client: %+v", got)
	}
	eventually(t, "it is disconnected, and its program has ended", func() bool {
		return len(l.store.Connections()) == 0 && l.table.Stats().Running == 0
	})
	_ = v.Close()
}

// heap is what is in use, in MiB.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc >> 20)
}

// Channels that nobody reads, filled byte by byte: a window's worth of such
// packets takes a hundred times what it holds.
func TestOneBytePackets(t *testing.T) {
	// An eighth of what it may be, for an eighth of the time.
	l := newLab(t, func(c *Config) { c.MaxUnread = 2 * maxConnectionBacklog / 8 })
	before := heap()
	c := l.dial(access.Grant{})
	var flood sync.WaitGroup
	for range 4 {
		ch, _ := l.channel(c)
		request(t, ch, "exec", ssh.Marshal(struct{ C string }{"sleep 1000"}), true)
		flood.Go(func() {
			for range 2 << 20 {
				if _, err := ch.Write([]byte{0}); err != nil {
					return
				}
			}
		})
	}
	peak, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		flood.Wait()
	}()
	for watching := true; watching; {
		select {
		case <-done:
			watching = false
		case <-time.After(200 * time.Millisecond):
		}
		peak = max(peak, heap())
	}
	t.Logf("heap before %d MiB, at most %d MiB", before, peak)
	if peak-before > 50 {
		t.Errorf("took %d MiB", peak-before)
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection ended well")
	}
	l.quiet()
	for _, p := range l.table.List() {
		_ = p.Stop(within(t), -1)
	}
}

// A stalled channel is no reason to end a connection, whatever goes through
// the others, nor are many of them.
func TestStalledChannels(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	for range 16 {
		ch, _ := l.channel(c)
		request(t, ch, "exec", ssh.Marshal(struct{ C string }{"sleep 1000"}), true)
		go func() { _, _ = ch.Write(make([]byte, 4<<20)) }() // ends with the connection
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdin = io.LimitReader(zeros{}, 128<<20)
	out, err := s.Output("wc -c; head -c 64000000 /dev/zero | wc -c")
	if string(bytes.ReplaceAll(out, []byte(" "), nil)) != "134217728\n64000000\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = c.Close()
	l.quiet()
	for _, p := range l.table.List() {
		_ = p.Stop(within(t), -1)
	}
}

// Nor are many small packets that go through another one, although a read that
// joins them looks as if it took less off the wire than it does.
func TestSmallPackets(t *testing.T) {
	const limit = 24 << 20
	l := newLab(t, func(c *Config) { c.MaxUnread = 2 * limit })
	// What the tests before have left alive is not of these connections.
	runtime.GC()
	memory := l.server.unread.memory
	before := memory()
	l.server.unread.memory = func() int64 { return memory() - before }
	c := l.dial(access.Grant{})
	ch, _ := l.channel(c)
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"exec sleep 1000"}), true)
	go func() { _, _ = ch.Write(make([]byte, 2<<20)) }() // ends with the connection
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err = errors.Join(err, s.Start("cat >/dev/null")); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 100)
	for range limit / 34 {
		if _, err := in.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(in.Close(), s.Wait()); err != nil {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// Connections that are cut at every point of a session leave nothing.
func TestCutAnywhere(t *testing.T) {
	l := newLab(t)
	for i := range 40 {
		nc, err := net.Dial("unix", l.socket)
		if err != nil {
			t.Fatal(err)
		}
		cut := &cutter{Conn: nc, left: 100 * i}
		config := &ssh.ClientConfig{User: l.grantSecret(access.Grant{}), HostKeyCallback: ssh.InsecureIgnoreHostKey()}
		conn, channels, requests, err := ssh.NewClientConn(cut, "guest", config)
		if err != nil {
			nc.Close()
			continue
		}
		c := ssh.NewClient(conn, channels, requests)
		if s, err := c.NewSession(); err == nil {
			_ = s.RequestPty("xterm", 24, 80, nil)
			s.Stdin = zeros{}
			_ = s.Run("cat >/dev/null")
		}
		_ = c.Close()
	}
	l.quiet()
	eventually(t, "programs end", func() bool { return l.table.Stats().Running == 0 })
}

// A cutter is cut after so many bytes to the server.
type cutter struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(b), max(0, c.left))
	c.left -= n
	if _, err := c.Conn.Write(b[:n]); err != nil || n == len(b) {
		return n, err
	}
	c.Close()
	return n, io.ErrClosedPipe
}

// What parses foreign bytes takes any.
func FuzzRequests(f *testing.F) {
	f.Add("pty-req", ssh.Marshal(struct {
		T          string
		C, R, W, H uint32
		M          []byte
	}{"xterm", 1, 2, 3, 4, []byte{53, 0, 0, 0, 1, 0}}))
	f.Add("env", ssh.Marshal(struct{ N, V string }{"LC_ALL", "C"}))
	f.Add("window-change", ssh.Marshal(windowSize{1, 2, 3, 4}))
	f.Add("signal", ssh.Marshal(struct{ N string }{"TERM"}))
	f.Add("exec", binary.BigEndian.AppendUint32(nil, 1<<31))
	permits := access.Everything()
	permits.Agent = false // it makes files
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		s := &session{conn: &conn{permits: permits}}
		for range 2 { // the second time after it has started, or with a terminal
			s.handle(context.Background(), kind, payload)
		}
		if s.envSize > maxEnvBytes || len(s.env) > maxEnvEntries {
			t.Errorf("%d variables, %d bytes", len(s.env), s.envSize)
		}
	})
}
