//go:build linux

package proc

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// evictAge is by how much a ring must have been read later than another to
// take that one's memory. Without it two rings that are both being read would
// take turns.
const evictAge = time.Second

// growRetry is how long a ring that was refused memory does not ask again.
const growRetry = time.Second

// A budget bounds the memory of all rings of a table. A ring asks before it
// grows; when nothing is left, those read least recently shrink.
//
// It never locks an output while its own mutex is held, and acquire is called
// without an output's mutex, so that no two outputs are ever locked at once.
type budget struct {
	limit int64
	base  time.Time

	mu    sync.Mutex
	used  int64
	rings map[*ring]*output // those that have something to give
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, base: time.Now(), rings: map[*ring]*output{}}
}

// now is the clock of ring.lastRead and ring.retryAt.
func (b *budget) now() time.Duration { return time.Since(b.base) }

// total is how much all rings have.
func (b *budget) total() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// acquire asks for n bytes more for r. forced takes them beyond the limit.
func (b *budget) acquire(r *ring, o *output, n int64, forced bool) bool {
	if b.grant(r, o, n, forced) {
		return true
	}
	b.evict(r, n)
	return b.grant(r, o, n, false)
}

func (b *budget) grant(r *ring, o *output, n int64, forced bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit && !forced {
		return false
	}
	b.used += n
	b.rings[r] = o
	return true
}

// release gives n bytes back; gone takes r off the list.
func (b *budget) release(r *ring, n int64, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if gone {
		delete(b.rings, r)
	}
}

// evict shrinks rings that were read well before r until n bytes are free, or
// none is left to shrink.
func (b *budget) evict(r *ring, n int64) {
	type victim struct {
		r    *ring
		o    *output
		read int64
	}
	before := r.lastRead.Load() - int64(evictAge)
	var victims []victim
	b.mu.Lock()
	for v, o := range b.rings {
		if read := v.lastRead.Load(); v != r && read < before && v.size.Load() > minRing {
			victims = append(victims, victim{v, o, read})
		}
	}
	b.mu.Unlock()
	slices.SortFunc(victims, func(x, y victim) int { return cmp.Compare(x.read, y.read) })
	for _, v := range victims {
		if b.total()+n <= b.limit {
			return
		}
		v.o.shrink(v.r)
	}
}
