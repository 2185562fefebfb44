//go:build linux

package proc

import (
	"context"
	"sync"
)

// forks keeps account of the agent's own forks that have not executed yet.
//
// Between fork and exec a child has copies of all of the agent's descriptors,
// also of the pipes of whatever else is just being started. A process may end
// in that time, and its pipe then seems to be held by something that it
// started. So nobody is said to hold a pipe before the forks that might have
// copied it have executed.
type forks struct {
	slots chan struct{} // bounds the threads that wait for an exec

	mu   sync.Mutex
	last uint64
	busy map[uint64]struct{}
}

func newForks(most int) *forks {
	return &forks{slots: make(chan struct{}, most), busy: map[uint64]struct{}{}}
}

// begin waits for its turn. end is to be called when the child has executed.
func (f *forks) begin(ctx context.Context) (end func(), err error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	n := f.last
	f.busy[n] = struct{}{}
	return func() {
		f.mu.Lock()
		delete(f.busy, n)
		f.mu.Unlock()
		<-f.slots
	}, nil
}

// now is the number of the last fork that has begun.
func (f *forks) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// done reports whether all forks up to number n have executed.
func (f *forks) done(n uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for busy := range f.busy {
		if busy <= n {
			return false
		}
	}
	return true
}
