//go:build linux

package sshd

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What things cost of the budget of descriptors. A session is its program: a
// pidfd and three pipes, or a terminal; what it opens for a moment while it
// starts is in the half that the budget leaves alone.
const (
	costConnection = 1
	costSession    = 4
	costForward    = 1
	costListener   = 1
)

// defaultDescriptors is what is assumed where the kernel does not say.
const defaultDescriptors = 1024

// A budget is how much of something there may be at once. Its methods are safe
// for concurrent use.
type budget struct {
	whole int
	of    *budget // from which everything is taken as well; may be nil
	left  atomic.Int64
}

func newBudget(whole int) *budget {
	b := &budget{whole: whole}
	b.left.Store(int64(whole))
	return b
}

// half returns a budget of half of b's whole: what one of those who share it
// may take, so that none leaves the others without.
func (b *budget) half() *budget {
	h := newBudget((b.whole + 1) / 2)
	h.of = b
	return h
}

// Take takes n, unless there is less than that, and reports whether it has.
func (b *budget) Take(n int) bool {
	if b.left.Add(int64(-n)) < 0 || b.of != nil && !b.of.Take(n) {
		b.left.Add(int64(n))
		return false
	}
	return true
}

// Give gives back what was taken.
func (b *budget) Give(n int) {
	b.left.Add(int64(n))
	if b.of != nil {
		b.of.Give(n)
	}
}

// descriptorLimit is how many descriptors SSH may hold, unless told otherwise:
// half of what this process may, as the rest is the host's.
func descriptorLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return defaultDescriptors / 2
	}
	return int(min(limit.Cur, 1<<30) / 2)
}
