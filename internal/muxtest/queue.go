//go:build linux

package muxtest

import "sync"

// An ending says how the writer of a queue ended.
type ending int

const (
	open    ending = iota // it may write more
	halfEnd               // it writes no more, and may still read
	fullEnd               // it is gone
	aborted               // the queue is dead and what it held is lost
)

// A queue is a bounded buffer between one reader and one writer.
type queue struct {
	mu    sync.Mutex
	cond  sync.Cond
	buf   []byte
	max   int
	state ending
}

func newQueue(max int) *queue {
	q := &queue{max: max}
	q.cond.L = &q.mu
	return q
}

// put appends p, waiting for room. On an aborted queue it drops p.
func (q *queue) put(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(p) > 0 {
		for len(q.buf) >= q.max && q.state != aborted {
			q.cond.Wait()
		}
		if q.state == aborted {
			return
		}
		n := min(len(p), q.max-len(q.buf))
		q.buf = append(q.buf, p[:n]...)
		p = p[n:]
		q.cond.Broadcast()
	}
}

// peek copies the head into p, waiting for data or, when there are none, for
// an ending; a half ending counts only if it was not seen before. The bytes
// take room until they are dropped.
func (q *queue) peek(p []byte, halfSeen bool) (int, ending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.state == aborted:
			return 0, aborted
		case len(q.buf) > 0:
			return copy(p, q.buf), open
		case q.state == fullEnd, q.state == halfEnd && !halfSeen:
			return 0, q.state
		}
		q.cond.Wait()
	}
}

// drop removes n bytes which peek has returned.
func (q *queue) drop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buf = append(q.buf[:0], q.buf[min(n, len(q.buf)):]...)
	q.cond.Broadcast()
}

// end notes e unless something later is noted already.
func (q *queue) end(e ending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state = max(q.state, e)
	if q.state == aborted {
		q.buf = nil
	}
	q.cond.Broadcast()
}

func (q *queue) abort() { q.end(aborted) }

func (q *queue) aborted() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state == aborted
}
