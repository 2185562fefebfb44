//go:build linux

package sshd

import (
	"runtime/metrics"
	"sync"
)

// A ledger bounds what the backlogs of all connections hold together. Where
// they come near, the largest is compacted, and beyond, it is ended: many small
// ones do not add up to what would take the memory of the whole agent.
type ledger struct {
	limit  int64        // bytes on the wire
	memory func() int64 // bytes that may be a backlog's

	mu       sync.Mutex
	backlogs map[*backlog]struct{}
}

// open returns the backlog of a new connection, which end ends.
func (l *ledger) open(end func()) *backlog {
	b := newBacklog(min(maxConnectionBacklog, l.limit/2))
	b.ledger, b.end = l, end
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.backlogs == nil {
		l.backlogs = make(map[*backlog]struct{})
	}
	l.backlogs[b] = struct{}{}
	return b
}

// close forgets a backlog.
func (l *ledger) close(b *backlog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.backlogs, b)
}

// balance is called as a backlog grows.
func (l *ledger) balance() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total, most int64
	var largest *backlog
	for b := range l.backlogs {
		held := b.held()
		total += held
		if held > most {
			most, largest = held, b
		}
	}
	switch {
	case total > l.limit && !l.inMemory(l.limit):
		for b := range l.backlogs {
			b.forgive()
		}
	case total > l.limit:
		delete(l.backlogs, largest) // it is on its way out; once is enough
		largest.end()
	case total > l.limit/compactShare && largest != nil:
		largest.compact()
	}
}

// inMemory reports whether backlogs may hold n bytes in memory. The collector's
// last count is doubled, because as much again may have come since.
func (l *ledger) inMemory(n int64) bool { return l.memory() > n/2 }

// liveMemory returns how many bytes of the program's memory may be backlogs: what
// the collector found alive when it last ran, less the output of processes and the
// ballast.
func (s *Server) liveMemory() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64()) - s.config.Processes.Stats().RingBytes - s.ballast.size()
}
