//go:build linux

package fsops

import "time"

// movePause is how long the second half of a rename is waited for when the
// first was the last in the queue. The kernel queues one behind the other, but
// on a busy machine the task that renames may lose its turn in between.
const movePause = 100 * time.Millisecond

// queued is an event on its way to [Watcher.Next].
type queued struct {
	Event
	state  int
	cookie uint32    // of a move
	at     time.Time // when a move began to wait
	dir    *watchDir // that was moved
}

// States of a queued event.
const (
	settled   = iota
	moveWaits // a removal that may turn out to be half of a rename
	moveDone  // it did; the rename is further behind
)

// movedFrom is the first half of a rename, or something that goes outside.
func (w *Watcher) movedFrom(dir *watchDir, cookie uint32, name string, e Event) {
	w.queue = append(w.queue, queued{Event: e, state: moveWaits, cookie: cookie, at: time.Now(), dir: w.tree.detach(dir, name)})
}

// movedTo is the second half of a rename, or something from outside.
func (w *Watcher) movedTo(dir *watchDir, cookie uint32, name string, e Event) {
	for i := range w.queue {
		q := &w.queue[i]
		if q.state != moveWaits || q.cookie != cookie {
			continue
		}
		q.state = moveDone
		e.Kind, e.From = EventRename, q.Path
		w.push(e)
		if q.dir != nil {
			w.tree.attach(q.dir, dir, name)
		}
		return
	}
	if w.forgetListed(listedName{dir, name}) {
		return
	}
	w.created(dir, name, e)
}

// oldestMove returns since when a move has waited for its other half.
func (w *Watcher) oldestMove() (time.Time, bool) {
	for i := range w.queue {
		if w.queue[i].state == moveWaits {
			return w.queue[i].at, true
		}
	}
	return time.Time{}, false
}

// settleMoves lets the moves that have waited long enough be removals. The
// kernel's queue is empty: their other halves are not in it.
func (w *Watcher) settleMoves() {
	for i := range w.queue {
		q := &w.queue[i]
		if q.state != moveWaits || time.Since(q.at) < movePause && !w.gone {
			continue
		}
		q.state = settled
		if q.dir != nil {
			w.tree.unwatch(w.fd, q.dir)
		}
	}
}

// movedBack takes care that the end of an earlier move does not remove the
// watch of a directory that has come back.
func (w *Watcher) movedBack(dir *watchDir) {
	for i := range w.queue {
		if w.queue[i].dir == dir {
			w.queue[i].dir = nil
		}
	}
}
