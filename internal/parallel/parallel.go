// Package parallel fits the number of threads that run Go code at once
// (GOMAXPROCS) to what the connections of a program have in bulk.
//
// More of them are not always faster. Go's scheduler keeps a thread in
// epoll_wait for every moment in which it has a processor without work, and on
// an edge-triggered poller that thread is woken whenever a peer or a child
// reads or writes, though nobody waits for it; and each goroutine that hands on
// to the next wakes a thread for it. A connection whose work is a chain, one
// step after another, as in SSH, gains nothing by that: for 256 MiB from a
// command to an ssh client they were 100,000 to 190,000 context switches with
// two processors, and 5,000 to 35,000 with one, at half the CPU time.
package parallel

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind says what a connection in bulk has use for.
type Kind int

const (
	// Parallel is a connection whose bulk work can be done by several
	// processors: one receives, another computes a checksum, a third writes.
	Parallel Kind = iota
	// Serial is one whose bulk work is a chain.
	Serial
	kinds
)

const (
	// period is how often it is looked whether connections are still in bulk.
	// Nothing is looked at while none is.
	period = time.Second
	// bulk is how many bytes a connection must move within a period to be in
	// bulk, and a quarter of that to stay there.
	bulk = 4 << 20
)

// A Fitter watches connections and fits the number of processors to them. The
// one for a process is made by [New]; its methods may be called from any
// goroutine.
type Fitter struct {
	apply func(processors int)

	mu      sync.Mutex
	members map[*conn]struct{} // in bulk
	looking bool               // look will be called
	applied int
}

// New returns a Fitter that calls apply whenever the number of processors
// should change: to as many as there are serial connections in bulk while there
// are no others, and to 0, which stands for the default, in any other case.
// Apply is not called twice at once.
func New(apply func(processors int)) *Fitter {
	return &Fitter{apply: apply, members: make(map[*conn]struct{})}
}

// Listener returns l with every connection that it accepts watched as one of
// kind. Closing it closes l. A nil Fitter returns l.
func (f *Fitter) Listener(l net.Listener, kind Kind) net.Listener {
	if f == nil {
		return l
	}
	return &listener{Listener: l, fitter: f, kind: kind}
}

type listener struct {
	net.Listener
	fitter *Fitter
	kind   Kind
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, fitter: l.fitter, kind: l.kind, since: time.Now()}, nil
}

// A conn is a watched connection.
type conn struct {
	net.Conn
	fitter *Fitter
	kind   Kind
	moved  atomic.Int64 // bytes of late, both ways

	// Guarded by fitter.mu.
	since  time.Time // when moved was 0
	closed bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count(n)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.count(n)
	return n, err
}

// Close closes the connection, and counts it no more.
func (c *conn) Close() error {
	c.fitter.closed(c)
	return c.Conn.Close()
}

func (c *conn) count(n int) {
	if moved := c.moved.Add(int64(n)); moved >= bulk && moved-int64(n) < bulk {
		c.fitter.crossed(c, time.Now())
	}
}

// crossed is called when c has moved enough to be in bulk, if that was quick.
func (f *Fitter) crossed(c *conn, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, member := f.members[c]; member || c.closed {
		return
	}
	quick := now.Sub(c.since) <= period
	c.moved.Store(0)
	c.since = now
	if !quick {
		return
	}
	f.members[c] = struct{}{}
	f.fit()
	if !f.looking {
		f.looking = true
		time.AfterFunc(period, f.look)
	}
}

// look drops the connections that are in bulk no more, and comes again while
// there are others.
func (f *Fitter) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for c := range f.members {
		if c.moved.Swap(0) < bulk/4 {
			delete(f.members, c)
		}
		c.since = now
	}
	f.fit()
	if f.looking = len(f.members) > 0; f.looking {
		time.AfterFunc(period, f.look)
	}
}

func (f *Fitter) closed(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.closed = true
	if _, member := f.members[c]; member {
		delete(f.members, c)
		f.fit()
	}
}

// fit applies what the members have use for. f.mu is held.
func (f *Fitter) fit() {
	var count [kinds]int
	for c := range f.members {
		count[c.kind]++
	}
	want := count[Serial]
	if count[Parallel] > 0 {
		want = 0
	}
	if want != f.applied {
		f.applied = want
		f.apply(want)
	}
}
