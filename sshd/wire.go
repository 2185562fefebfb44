//go:build linux

package sshd

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// packageWrite is how x/crypto/ssh writes: through a buffer of this size,
	// which it flushes after every packet. A shorter write is the end of a
	// packet, or all of it.
	packageWrite = 4096
	// burst is how soon after another a write belongs to the same burst.
	burst = 50 * time.Microsecond
	// closePatience bounds how long Close waits for the peer to take what was
	// written before.
	closePatience = 2 * time.Second
)

var errWireClosed = errors.New("connection is closed")

// A wire is the net.Conn under x/crypto/ssh. It reads in bulk, and writes in
// bulk what comes in bulk: packets that follow each other closely are gathered
// in one buffer while the one before is on its way. A packet that comes alone,
// such as the echo of a key, is written at once by who sends it.
//
// One goroutine reads. Writes may come from many; Close and abort too.
type wire struct {
	net.Conn
	count   func(received, sent int) // for the account
	backlog *backlog
	timeout time.Duration // of a write that makes no progress

	heard atomic.Int64 // when something came last, in nanoseconds since made
	made  time.Time

	load load

	reading sync.Mutex // held by Read
	in      elastic
	last    int    // what the last read from Conn gave
	pending []byte // of it, what has not been handed on

	mu       sync.Mutex
	gathered *sync.Cond // the flusher waits: for bytes that nobody writes
	written  *sync.Cond // all others wait: for the end of a write
	buf      []byte     // gathered; nil when there is nothing
	busy     bool       // somebody writes to Conn
	err      error      // no write is possible any more
	closing  bool
	ended    time.Time // the end of the last write
	deadline time.Time // Conn's, for writes

	flusher sync.WaitGroup
}

// newWire takes over conn, and in, into which it reads and from whose pool and
// memory it takes what it writes from. The caller closes the wire.
func newWire(conn net.Conn, in elastic, b *ballast, timeout time.Duration, backlog *backlog, count func(received, sent int)) *wire {
	w := &wire{
		Conn: conn, count: count, backlog: backlog, timeout: timeout, made: time.Now(),
		in: in, load: load{ballast: b},
	}
	w.gathered, w.written = sync.NewCond(&w.mu), sync.NewCond(&w.mu)
	w.flusher.Go(w.flush)
	return w
}

// Read hands on what has arrived. Its error is the backlog's when the peer has
// sent more than a connection may hold.
func (w *wire) Read(b []byte) (int, error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	if len(w.pending) == 0 {
		buf := w.in.next(w.last)
		n, err := w.Conn.Read(buf)
		w.last, w.pending = n, buf[:n]
		w.count(n, 0)
		if n > 0 {
			w.load.received(n)
			w.heard.Store(int64(time.Since(w.made)))
			err = w.backlog.arrived(n)
		}
		if err != nil {
			w.pending = nil
			w.in.release()
			return 0, err
		}
	}
	n := copy(b, w.pending)
	w.pending = w.pending[n:]
	return n, nil
}

// silence is for how long nothing has come.
func (w *wire) silence() time.Duration { return time.Since(w.made) - time.Duration(w.heard.Load()) }

// Write sends b, or gathers it to be sent. An error may be that of an earlier
// write.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for w.err == nil && len(w.buf) > 0 && len(w.buf)+len(b) > wireBuffer {
			w.written.Wait()
		}
		if w.err != nil {
			return 0, w.err
		}
		free := len(w.buf) == 0 && !w.busy
		if alone := free && len(b) < packageWrite; !alone || time.Since(w.ended) <= burst {
			if w.gather(b) {
				return len(b), nil
			}
		}
		if free {
			w.send(b)
			return len(b), w.err
		}
		w.written.Wait() // there is no memory to gather in
	}
}

// gather appends b to what the flusher sends, if there is memory for that. w.mu
// is held.
func (w *wire) gather(b []byte) bool {
	if w.buf == nil {
		if !w.in.memory.Take(w.in.pool.size) {
			return false
		}
		w.buf = w.in.pool.get()[:0]
	}
	w.buf = append(w.buf, b...)
	if !w.busy {
		w.gathered.Signal()
	}
	return true
}

// release is the end of a buffer that was gathered in. w.mu is held.
func (w *wire) release(buf []byte) {
	if buf != nil {
		w.in.pool.put(buf)
		w.in.memory.Give(w.in.pool.size)
	}
}

// send writes to Conn, without the lock, which it holds before and after. It
// wakes the flusher only if there is something for it: a packet that comes
// alone shall cost nobody else's turn.
func (w *wire) send(b []byte) {
	w.busy = true
	now := time.Now()
	if w.deadline.Sub(now) < w.timeout/2 && !w.closing {
		// Not for every write: a deadline costs as much as a short one.
		w.deadline = now.Add(w.timeout)
		_ = w.SetWriteDeadline(w.deadline)
	}
	w.mu.Unlock()
	n, err := w.Conn.Write(b)
	w.count(0, n)
	w.backlog.sent(n)
	w.mu.Lock()
	w.busy = false
	w.ended = time.Now()
	if err != nil && w.err == nil {
		w.err = err
		// x/crypto/ssh would go on reading.
		_ = w.Conn.Close()
	}
	if len(w.buf) > 0 || w.err != nil {
		w.gathered.Signal()
	}
	w.written.Broadcast()
}

// flush sends what is gathered, until the wire is closed.
func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for w.err == nil && (w.busy || len(w.buf) == 0) {
			w.gathered.Wait()
		}
		out := w.buf
		w.buf = nil
		if w.err != nil {
			w.release(out)
			return
		}
		w.send(out)
		w.release(out)
	}
}

// Close sends what is gathered, if the peer takes it soon, and closes the
// connection. It may be called twice.
func (w *wire) Close() error {
	w.mu.Lock()
	if !w.closing {
		w.closing = true
		_ = w.SetWriteDeadline(time.Now().Add(closePatience))
	}
	for w.err == nil && (w.busy || len(w.buf) > 0) {
		w.written.Wait()
	}
	w.mu.Unlock()
	w.abort()
	w.flusher.Wait()
	// After a handshake that failed nobody reads what else has come.
	w.reading.Lock()
	defer w.reading.Unlock()
	w.in.release()
	w.last, w.pending = 0, nil
	return nil
}

// abort closes the connection as it is.
func (w *wire) abort() {
	w.mu.Lock()
	if w.err == nil {
		w.err = errWireClosed
	}
	w.gathered.Signal()
	w.written.Broadcast()
	w.mu.Unlock()
	w.load.close()
	_ = w.Conn.Close()
}
