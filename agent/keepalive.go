//go:build linux

package agent

import (
	"encoding/binary"
	"time"
)

// How a peer that is gone without a word is noticed. A ping is answered by the
// peer's HTTP/2 layer, so that a quiet call lives for ever. The first period is
// long because every ping wakes an idle machine up.
//
// gRPC's own keep-alive, which does the same, is switched off: it compares times
// of the wall clock. When that is set back, as in a machine that learns the time
// after it was resumed, gRPC takes every answer that follows for older than the
// ping and closes each connection, in the middle of its calls.
const (
	pingAfter = 5 * time.Minute  // of silence
	pingAgain = 20 * time.Second // after one that was not answered
	// maxPings go unanswered before the connection is closed. More than one:
	// when a machine was paused and its clock went on, a first period is over
	// before the answer that has arrived could be read.
	maxPings = 3
)

// keepAlive is how connections are kept alive; tests are less patient.
type keepAlive struct{ after, again time.Duration }

// keep pings the peer when it is silent, until the connection is closed, and
// closes it when there is no answer. Time is the monotonic clock's.
func (c *connection) keep(k keepAlive) {
	timer := time.NewTimer(k.after)
	defer timer.Stop()
	heard, pings := int64(0), 0
	for {
		select {
		case <-timer.C:
		case <-c.gone:
			return
		}
		if now := c.heard.Load(); now != heard {
			heard, pings = now, 0
		}
		silence := time.Since(c.made) - time.Duration(heard)
		switch {
		case silence < k.after:
			timer.Reset(k.after - silence)
		case pings == maxPings:
			c.owner.log.Info("connection closed: no answer to pings", "silence", silence)
			_ = c.Close() // of a peer that does not hear it
			return
		default:
			pings++
			c.ping(k.again)
			timer.Reset(k.again)
		}
	}
}

// ping writes a ping, or has it written behind the frame that is being written.
func (c *connection) ping(limit time.Duration) {
	c.pingDue.Store(int64(limit))
	c.tryPing()
}

// tryPing writes the ping that is due, if there is one, unless somebody writes:
// who does so calls it when he no longer holds the lock.
func (c *connection) tryPing() {
	if c.pingDue.Load() != 0 && c.writing.TryLock() {
		defer c.writing.Unlock()
		c.writePing()
	}
}

// pingFrame is a PING of eight zeros on stream 0 (RFC 9113 §6.7). gRPC's server
// passes over the answer: its own have other bytes.
const pingFrame = "\x00\x00\x08\x06\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"

// writePing writes the ping that is due, if there is one and a frame may begin
// here. c.writing is held.
func (c *connection) writePing() {
	if c.pingDue.Load() == 0 || !c.frames.between() {
		return
	}
	limit := time.Duration(c.pingDue.Swap(0))
	// Nothing else sets one. Without it a peer that reads nothing would hold up
	// who is to close the connection.
	_ = c.SetWriteDeadline(time.Now().Add(limit))
	if _, err := c.Conn.Write([]byte(pingFrame)); err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetWriteDeadline(time.Time{})
}

// frames follows a stream of HTTP/2 frames (RFC 9113 §4.1) as it is written, to
// know where another frame may be put in between. The zero value is at the
// beginning.
type frames struct {
	header  [9]byte
	have    int  // bytes of header
	payload int  // bytes to come
	block   bool // only a CONTINUATION may follow
}

// between reports whether a frame of another stream may begin here.
func (f *frames) between() bool { return f.have == 0 && f.payload == 0 && !f.block }

// wrote takes note of what has been written.
func (f *frames) wrote(b []byte) {
	const (
		typeHeaders, typePushPromise, typeContinuation = 1, 5, 9
		flagEndHeaders                                 = 4
	)
	for len(b) > 0 {
		if f.payload > 0 {
			n := min(f.payload, len(b))
			f.payload -= n
			b = b[n:]
			continue
		}
		n := copy(f.header[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have < len(f.header) {
			return
		}
		f.have = 0
		f.payload = int(binary.BigEndian.Uint32(f.header[:4]) >> 8)
		switch f.header[3] {
		case typeHeaders, typePushPromise, typeContinuation:
			f.block = f.header[4]&flagEndHeaders == 0
		}
	}
}
