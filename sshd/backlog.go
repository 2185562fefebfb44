//go:build linux

package sshd

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// errBacklog ends a connection that would make the agent hold too much.
var errBacklog = errors.New("peer sends more than a connection may hold")

const (
	// packetOverhead is what a packet of data has beside the data on the wire:
	// length, padding, type, channel, data's length, and a MAC. It is
	// generous, and so is overheadShift for the packets that one read joins:
	// a peer that does nothing wrong must never come to the limit, however
	// much goes through its other channels.
	packetOverhead = 96
	overheadShift  = 8
	// Of a backlog's limit: how much may arrive unread until it is compacted,
	// and how much of that is kept of one channel and of all of them.
	compactShare  = 8
	spillShare    = 64
	allSpillShare = 4
	// tellStep is by how much a backlog grows until it tells the ledger.
	tellStep = 64 << 10
)

// A backlog bounds the memory of what the peer has sent and nobody has read
// yet. x/crypto/ssh gives every channel a window of 2 MiB and keeps each packet
// in it by itself: filled with packets of one byte it takes a hundred times the
// bytes it holds, and how many packets wait cannot be asked.
//
// What can be known is about how much it is: the bytes that came over the wire
// less those that carried what was read, counted from a moment at which every
// channel was being read. If that grows while some channel is not read,
// its packets are read into one piece of memory (which opens the window
// again, so there is a limit to it), and at last the connection is ended, if the
// memory of the whole program does not say that so much cannot be there: a read
// that joins many small packets takes more off the wire than it can know.
type backlog struct {
	ledger   *ledger
	end      func()       // ends the connection, from outside
	limit    int64        // bytes on the wire
	consumed atomic.Int64 // bytes on the wire that have been read, at least
	stalled  atomic.Int32 // channels that nobody reads at this moment
	spilled  atomic.Int64 // bytes compacted

	// Written by the goroutine that reads the connection.
	wire, base atomic.Int64
	next       int64 // when to compact
	told       int64 // what the ledger knows of

	mu      sync.Mutex
	inputs  map[*input]struct{}
	closed  bool
	workers sync.WaitGroup // compactors
}

func newBacklog(limit int64) *backlog {
	return &backlog{limit: limit, inputs: make(map[*input]struct{}), next: limit / compactShare}
}

// arrived counts n bytes on the wire. The error is errBacklog.
func (b *backlog) arrived(n int) error {
	held := b.wire.Add(int64(n)) - b.consumed.Load()
	if b.stalled.Load() == 0 {
		b.base.Store(held)
		b.next, b.told = b.limit/compactShare, 0
		return nil
	}
	base := min(b.base.Load(), held) // nobody earns credit by reading
	b.base.Store(base)
	held -= base
	if held < b.told/2 { // most of it has been read, or forgiven
		b.next, b.told = held+b.limit/compactShare, held
	}
	switch {
	case held > b.limit:
		if b.ledger.inMemory(b.limit) {
			return errBacklog
		}
		b.forgive()
		return nil
	case held > b.next:
		b.next = held + b.limit/compactShare
		b.compact()
	}
	if held > b.told+tellStep {
		b.told = held
		b.ledger.balance()
	}
	return nil
}

// forgive begins the account anew, where it turned out to be wrong.
func (b *backlog) forgive() { b.base.Store(b.wire.Load() - b.consumed.Load()) }

// held is about how many bytes the connection holds, compacted ones among them.
func (b *backlog) held() int64 {
	held := b.spilled.Load()
	if b.stalled.Load() > 0 {
		held += max(0, b.wire.Load()-b.consumed.Load()-b.base.Load())
	}
	return held
}

// read counts n bytes of data, or of a request, that were read at once.
func (b *backlog) read(n int) { b.consumed.Add(int64(n + n>>overheadShift + packetOverhead)) }

// sent counts what the peer will acknowledge with window adjustments.
func (b *backlog) sent(n int) { b.consumed.Add(int64(n >> (overheadShift + 1))) }

// compact has every channel that is not read compacted.
func (b *backlog) compact() {
	b.mu.Lock()
	inputs := slices.Collect(maps.Keys(b.inputs))
	b.mu.Unlock()
	// Without the mutex: an input that ends holds its own and wants this one.
	for _, in := range inputs {
		if in.claim(false) && !b.work(in.compact) {
			in.yield(false, nil)
		}
	}
}

// work runs f in a goroutine that wait waits for; not any more once it does.
func (b *backlog) work(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.workers.Go(f)
	}
	return !b.closed
}

func (b *backlog) add(in *input) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inputs[in] = struct{}{}
	b.stalled.Add(1)
}

// spillFull reports whether a channel's spill is all that may be kept.
func (b *backlog) spillFull(n int) bool {
	return int64(n) >= b.limit/spillShare || b.spilled.Load() >= b.limit/allSpillShare
}

// remove forgets a channel that has ended.
func (b *backlog) remove(in *input) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.inputs[in]; ok {
		delete(b.inputs, in)
		b.stalled.Add(-1)
	}
}

// wait waits for the compactors, which end with their channels. No other one
// begins.
func (b *backlog) wait() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.workers.Wait()
}
