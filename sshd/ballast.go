//go:build linux

package sshd

import (
	"sync"
	"weak"
)

const (
	// ballastSize is four times what an agent usually has alive.
	ballastSize = 8 << 20
	// ballastAfter is how much comes in bulk before a connection wants the
	// ballast: about what makes the collector run once without it.
	ballastAfter = 4 << 20
)

// A ballast is memory that is allocated and not used while connections receive in
// bulk. The garbage collector lets as much garbage come together as there is
// memory alive. x/crypto/ssh makes garbage of each packet, and an agent has so
// little alive that the collector would run after every hundred of them, which
// took a fifth of the CPU time of an upload. The price is up to twice its size
// of resident memory meanwhile: the garbage, and the ballast itself where that
// memory had been used before and must be cleared.
//
// It is not made part of the collector's settings because those hold for the
// whole program, which has better uses for its memory when nothing comes in.
// The zero value is ready to use, and one is for all connections of a server.
type ballast struct {
	mu      sync.Mutex
	holders int
	memory  *[ballastSize]byte
	last    weak.Pointer[[ballastSize]byte] // memory, or what it was
}

func (b *ballast) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holders++; b.holders > 1 {
		return
	}
	// Perhaps the collector has not been there since the last time.
	if b.memory = b.last.Value(); b.memory == nil {
		b.memory = new([ballastSize]byte)
		b.last = weak.Make(b.memory)
	}
}

func (b *ballast) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holders--; b.holders == 0 {
		b.memory = nil
	}
}

// size is how much of it there is, also where nobody holds it but the collector
// has not been there.
func (b *ballast) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.Value() == nil {
		return 0
	}
	return ballastSize
}

// A load is how one connection decides about the ballast. One goroutine calls
// received; close may be called at any time, also twice, and ends it.
type load struct {
	ballast *ballast

	mu     sync.Mutex
	bulk   int // bytes in bulk of late, at most ballastAfter
	holds  bool
	closed bool
}

// received counts what one read has given.
func (l *load) received(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n < smallBuffer {
		// One small packet among large ones is not the end of them.
		l.bulk /= 2
	} else {
		l.bulk = min(l.bulk+n, ballastAfter)
	}
	switch {
	case l.closed:
	case l.bulk == ballastAfter:
		l.hold(true)
	case l.bulk < ballastAfter/8:
		l.hold(false)
	}
}

// hold takes the ballast or lets go of it. l.mu is held.
func (l *load) hold(wanted bool) {
	switch {
	case wanted == l.holds:
		return
	case wanted:
		l.ballast.hold()
	default:
		l.ballast.release()
	}
	l.holds = wanted
}

func (l *load) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.hold(false)
}
