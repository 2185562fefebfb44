//go:build linux

package muxtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// chunk is how much one read or write moves.
const chunk = 16 << 10

// A link is one connection between host and guest. It begins with the host's
// end alone, asking for a port.
type link struct {
	m        *Mux
	host     *net.UnixConn
	hostPort uint32
	toHost   *queue
	reset    atomic.Bool   // died by ResetAll
	gone     chan struct{} // closed when the guest has closed both directions
	done     chan struct{} // closed by kill
	finished chan struct{} // closed when the link has left the Mux

	killOnce sync.Once

	mu     sync.Mutex
	guest  *net.UnixConn // nil until the guest has answered
	killed bool
	eof    bool // the guest's stream has ended
	hup    bool // gone is closed
}

func newLink(m *Mux, host *net.UnixConn, hostPort uint32) *link {
	return &link{
		m:        m,
		host:     host,
		hostPort: hostPort,
		toHost:   newQueue(m.cfg.Buffer),
		gone:     make(chan struct{}),
		done:     make(chan struct{}),
		finished: make(chan struct{}),
	}
}

// finish ends the link; the goroutine that ran it calls it last.
func (l *link) finish() {
	l.kill()
	l.m.removeLink(l)
	close(l.finished)
}

// kill closes both ends at once, losing what is on the way.
func (l *link) kill() {
	l.killOnce.Do(func() {
		close(l.done)
		l.toHost.abort()
		_ = l.host.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.killed = true
		if l.guest != nil {
			_ = l.guest.Close()
		}
	})
}

// setGuest takes over the multiplexer's end towards the guest; it reports
// false if the link was killed meanwhile.
func (l *link) setGuest(c *net.UnixConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.killed {
		_ = c.Close()
		return false
	}
	l.guest = c
	return true
}

// forward moves data until the link is over.
func (l *link) forward(guest *net.UnixConn) {
	if !l.setGuest(guest) || l.m.hangups.watch(guest, l.guestGone) != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(l.copyToGuest)
	wg.Go(l.readGuest)
	wg.Go(l.writeHost)
	wg.Go(l.cutLateClose)
	wg.Wait()
}

// copyToGuest moves the host's bytes to the guest. While the guest does not
// read, the host's end of stream goes unnoticed, as in Firecracker.
func (l *link) copyToGuest() {
	buf := make([]byte, rateChunk(l.m.cfg.ToGuestRate))
	for {
		n, err := l.host.Read(buf)
		if n > 0 {
			l.throttle(n, l.m.cfg.ToGuestRate)
			if _, err := l.guest.Write(buf[:n]); err != nil {
				return // the guest reads no more: stop reading the host
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && l.m.cfg.HalfClose {
			_ = l.guest.CloseWrite()
		} else {
			l.shutGuest()
		}
		return
	}
}

// shutGuest is what the guest gets when the host's stream has ended: SHUTDOWN
// of both directions. The guest may still read what was sent.
func (l *link) shutGuest() {
	l.toHost.abort()
	_ = l.host.SetWriteDeadline(time.Unix(1, 0)) // writeHost may hang there
	_ = l.guest.CloseRead()
	_ = l.guest.CloseWrite()
	l.killIfEnded() // else readGuest finds the end, and kills
}

// readGuest moves the guest's bytes to the queue, or nowhere if the host is
// gone: reading to the end keeps the guest from seeing a reset.
func (l *link) readGuest() {
	buf := make([]byte, chunk)
	for {
		n, err := l.guest.Read(buf)
		if n > 0 {
			l.toHost.put(buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
			// A reset is a guest that closed with something unread. AF_VSOCK
			// makes no difference, and all its data were read by now.
			l.guestEnded(func() { l.eof = true })
			if l.toHost.aborted() {
				l.kill()
			}
			return
		default:
			l.kill()
			return
		}
	}
}

// guestGone is called once by the Mux's watcher.
func (l *link) guestGone() {
	l.guestEnded(func() { l.hup = true })
	close(l.gone)
}

// guestEnded notes one of the two things that make a full close: the end of
// the stream, behind all data, and the hang-up, which overtakes the data.
func (l *link) guestEnded(note func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	note()
	switch {
	case l.eof && l.hup:
		l.toHost.end(fullEnd)
	case l.eof && l.m.cfg.HalfClose:
		l.toHost.end(halfEnd)
	}
}

// writeHost moves the queue to the host. A guest that closed is closed towards
// the host when all its data are there.
func (l *link) writeHost() {
	buf := make([]byte, rateChunk(l.m.cfg.ToHostRate))
	halfDone := false
	for {
		n, end := l.toHost.peek(buf, halfDone)
		if n > 0 {
			l.throttle(n, l.m.cfg.ToHostRate)
			if _, err := l.host.Write(buf[:n]); err != nil {
				l.hostLost()
				return
			}
			l.toHost.drop(n)
			continue
		}
		switch end {
		case halfEnd:
			_ = l.host.CloseWrite()
			halfDone = true
		case fullEnd:
			l.kill()
			return
		default: // aborted
			return
		}
	}
}

// hostLost ends a link whose host takes no more: copyToGuest sees the end of
// the host's stream, unless it has ended before.
func (l *link) hostLost() {
	l.toHost.abort()
	if l.m.cfg.HalfClose {
		l.kill()
	}
	l.killIfEnded()
}

// killIfEnded kills a link whose queue was aborted if readGuest is through: it
// looks for that after it has noted the end, this the other way round.
func (l *link) killIfEnded() {
	l.mu.Lock()
	ended := l.eof
	l.mu.Unlock()
	if ended {
		l.kill()
	}
}

// cutLateClose ends a link whose guest has closed and whose host does not take
// the rest.
func (l *link) cutLateClose() {
	select {
	case <-l.gone:
	case <-l.done:
		return
	}
	if l.m.cfg.CloseCut < 0 {
		<-l.done
		return
	}
	t := time.NewTimer(l.m.cfg.CloseCut)
	defer t.Stop()
	select {
	case <-t.C:
		l.kill()
	case <-l.done:
	}
}

// throttle takes the time that n bytes take at rate bytes per second.
func (l *link) throttle(n, rate int) {
	if rate <= 0 {
		return
	}
	t := time.NewTimer(time.Duration(n) * time.Second / time.Duration(rate))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.done:
	}
}

// rateChunk makes a slow stream flow in small pieces rather than in bursts.
func rateChunk(rate int) int {
	if rate <= 0 {
		return chunk
	}
	return max(1, min(chunk, rate/20))
}
