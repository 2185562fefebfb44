//go:build linux

package sshd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wires returns a wire and its peer, which are connected by a unix socket.
func wires(t *testing.T, timeout time.Duration) (*wire, net.Conn, *counter) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	count := &counter{Conn: conn}
	pool := &bufferPool{size: wireBuffer}
	w := newWire(count, elastic{pool: pool, memory: newBudget(DefaultMaxBuffers)}, new(ballast), timeout, openBacklog(maxConnectionBacklog), func(int, int) {})
	t.Cleanup(func() {
		_ = w.Close()
		_ = peer.Close()
	})
	return w, peer, count
}

// A counter counts the writes to a connection.
type counter struct {
	net.Conn
	writes atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// What many goroutines write arrives whole, and in each one's order.
func TestWireKeepsOrder(t *testing.T) {
	for name, memory := range map[string]int{"gathered": DefaultMaxBuffers, "without memory": 0} {
		t.Run(name, func(t *testing.T) {
			w, peer, _ := wires(t, time.Minute)
			w.in.memory = newBudget(memory)
			testOrder(t, w, peer)
		})
	}
}

func testOrder(t *testing.T, w *wire, peer net.Conn) {
	t.Helper()
	const writers, records, size = 4, 500, 1000
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for n := range records {
				record := bytes.Repeat([]byte{byte(i)}, size)
				record[1] = byte(n)
				if _, err := w.Write(record); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var next [writers]byte
	record := make([]byte, size)
	for range writers * records {
		if _, err := io.ReadFull(peer, record); err != nil {
			t.Fatal(err)
		}
		i := record[0]
		if record[1] != next[i] || record[size-1] != i {
			t.Fatalf("writer %d: got record %d, want %d", i, record[1], next[i])
		}
		next[i]++
	}
	all.Wait()
}

// A packet that comes alone is one write, by who sends it; many are few.
func TestWireGathers(t *testing.T) {
	w, peer, count := wires(t, time.Minute)
	time.Sleep(2 * burst) // so that the first one comes alone
	if _, err := w.Write(make([]byte, 64)); err != nil || count.writes.Load() != 1 {
		t.Errorf("%d writes, %v", count.writes.Load(), err)
	}
	const packets, size = 4000, 8 << 10
	go func() {
		for range packets { // as x/crypto/ssh writes them
			_, _ = w.Write(make([]byte, packageWrite))
			_, _ = w.Write(make([]byte, size-packageWrite))
		}
	}()
	if n, err := io.CopyN(io.Discard, peer, 64+packets*size); err != nil {
		t.Fatal(n, err)
	}
	if n := count.writes.Load(); n > packets {
		t.Errorf("%d writes for %d packets", n, packets)
	}
}

// Any sizes in both directions.
func TestWireBothWays(t *testing.T) {
	w, peer, _ := wires(t, time.Minute)
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		_, _ = io.Copy(peer, peer) // until the wire is closed
	}()
	rnd := rand.New(rand.NewPCG(1, 2))
	sent, got := sha256.New(), sha256.New()
	const total = 8 << 20
	go func() {
		for left := total; left > 0; {
			b := make([]byte, min(left, 1+rnd.IntN(70_000)))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			sent.Write(b)
			if _, err := w.Write(b); err != nil {
				t.Error(err)
				return
			}
			left -= len(b)
		}
	}()
	if _, err := io.CopyN(got, w, total); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	<-echoed
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("other bytes came back")
	}
}

// Close sends what was written before.
func TestWireCloseFlushes(t *testing.T) {
	w, peer, _ := wires(t, time.Minute)
	for range 100 {
		if _, err := w.Write(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = w.Close() }()
	if n, err := io.Copy(io.Discard, peer); n != 200_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte{0}); !errors.Is(err, errWireClosed) {
		t.Errorf("a write after that: %v", err)
	}
}

// A peer that takes nothing ends the connection, for writers and readers.
func TestWireTimeout(t *testing.T) {
	w, _, _ := wires(t, 50*time.Millisecond)
	read := make(chan error, 1)
	go func() {
		_, err := w.Read(make([]byte, 1))
		read <- err
	}()
	var err error
	for err == nil {
		_, err = w.Write(make([]byte, 100_000))
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("ended with %v", err)
	}
	if err := <-read; err == nil {
		t.Error("a read goes on")
	}
}
