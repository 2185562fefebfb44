//go:build linux

package proc

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
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
	used  atomic.Int64

	mu    sync.Mutex
	rings map[*ring]*output // those that have something to give
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, base: time.Now(), rings: map[*ring]*output{}}
}

// now is the clock of ring.lastRead and ring.retryAt.
func (b *budget) now() time.Duration { return time.Since(b.base) }

// acquire asks for n bytes more for r. forced takes them beyond the limit.
func (b *budget) acquire(r *ring, o *output, n int64, forced bool) bool {
	if b.used.Add(n) <= b.limit || forced || b.evict(r) {
		b.mu.Lock()
		b.rings[r] = o
		b.mu.Unlock()
		return true
	}
	b.used.Add(-n)
	return false
}

// release gives n bytes back; gone takes r off the list.
func (b *budget) release(r *ring, n int64, gone bool) {
	b.used.Add(-n)
	if gone {
		b.mu.Lock()
		delete(b.rings, r)
		b.mu.Unlock()
	}
}

// evict shrinks rings that were read well before r until the bound holds.
func (b *budget) evict(r *ring) bool {
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
		if b.used.Load() <= b.limit {
			break
		}
		v.o.shrink(v.r)
	}
	return b.used.Load() <= b.limit
}
