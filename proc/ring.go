//go:build linux

package proc

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// minRing is what a ring begins with and never goes below, whatever the
// agent-wide bound says: with less, a process could not make progress.
const minRing = 4 << 10

// growFactor trades a few reallocations for little memory where a process
// prints a page or two, which is the usual case.
const growFactor = 4

// errNoRoom is what fill says when the ring must grow, or a lossless
// subscriber catch up, before anything can be read.
var errNoRoom = errors.New("no room in ring")

// A ring keeps the newest bytes of a stream. Positions are absolute offsets in
// the stream; byte number n lies at n modulo the capacity. The mutex of the
// output that it belongs to guards it.
type ring struct {
	buf   []byte
	start uint64 // offset of the oldest byte kept
	end   uint64 // offset after the newest one
	limit int    // the capacity never grows beyond it
	eof   bool   // end is final

	exitEnd uint64        // end when the exit was published
	pending bool          // bytes wait in the pipe, and there is no buffer yet
	slack   int           // room to make once instead of blocking
	blocked bool          // the pump waits on space
	space   chan struct{} // capacity 1; nil before the pump waits, which few ever do
	retryAt time.Duration // no attempt to grow before

	// For the budget, which looks without the mutex.
	lastRead atomic.Int64 // when a subscriber last read it
	size     atomic.Int64 // len(buf)
}

// writable returns how many bytes may be written without overwriting byte
// number floor or a later one.
func (r *ring) writable(floor uint64) int {
	if floor >= r.end {
		return len(r.buf)
	}
	return len(r.buf) - int(r.end-max(floor, r.start))
}

// full reports whether the next byte overwrites another.
func (r *ring) full() bool { return r.end-r.start == uint64(len(r.buf)) }

// nextSize returns the capacity to grow to, or 0 where there is no reason.
func (r *ring) nextSize() int {
	if len(r.buf) == 0 && !r.pending || !r.full() || len(r.buf) >= r.limit {
		return 0
	}
	return min(r.limit, max(minRing, len(r.buf)*growFactor))
}

// fill reads once from the non-blocking fd straight into the ring. Only the
// bytes that arrive overwrite old ones, so a read that finds nothing costs no
// history. It returns EAGAIN, errNoRoom, io.EOF, or another errno.
func (r *ring) fill(fd int, floor uint64) (int, error) {
	if len(r.buf) == 0 {
		// The first page is allocated when something is there to be kept.
		data, ended, err := readiness(fd)
		if err == nil && ended && !data {
			// The kernel looks for data first and for writers then: one that
			// writes and closes in between looks as if it had written
			// nothing. Once it is gone, another look tells the truth.
			data, _, err = readiness(fd)
		}
		switch {
		case err != nil:
			return 0, err
		case !data && ended:
			return 0, io.EOF
		case !data:
			return 0, unix.EAGAIN
		}
		r.pending = true
		return 0, errNoRoom
	}
	room := r.writable(floor)
	if room == 0 {
		return 0, errNoRoom
	}
	at := int(r.end % uint64(len(r.buf)))
	n, err := unix.Read(fd, r.buf[at:min(len(r.buf), at+room)])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, r.buf[at:min(len(r.buf), at+room)])
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	r.end += uint64(n)
	if r.end-r.start > uint64(len(r.buf)) {
		r.start = r.end - uint64(len(r.buf))
	}
	return n, nil
}

// readiness reports, without waiting, whether fd has data and whether all who could
// write more are gone.
func readiness(fd int) (data, ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err = unix.Poll(fds, 0)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Poll(fds, 0)
	}
	events := fds[0].Revents
	return events&unix.POLLIN != 0, events&^unix.POLLIN != 0, err
}

// copyFrom copies bytes from offset on, which must lie in [start, end), and
// returns how many; it goes on behind the wrap.
func (r *ring) copyFrom(offset uint64, dst []byte) int {
	n := int(min(uint64(len(dst)), r.end-offset))
	if n == 0 {
		return 0
	}
	at := int(offset % uint64(len(r.buf)))
	done := copy(dst[:n], r.buf[at:])
	copy(dst[done:n], r.buf)
	return n
}

// resize gives the ring another capacity; the newest bytes stay.
func (r *ring) resize(buf []byte) {
	if r.end-r.start > uint64(len(buf)) {
		r.start = r.end - uint64(len(buf))
	}
	for off := r.start; off < r.end; {
		at := int(off % uint64(len(buf)))
		off += uint64(r.copyFrom(off, buf[at:]))
	}
	r.buf = buf
	r.size.Store(int64(len(buf)))
}
