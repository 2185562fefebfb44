//go:build linux

package sshd

import (
	"net"
	"testing"
)

// Bulk takes the ballast, small packets or the end of the connection give it
// back, and all connections share one.
func TestLoad(t *testing.T) {
	var b ballast
	one, two := load{ballast: &b}, load{ballast: &b}
	fill := func(l *load) {
		for range ballastAfter / wireBuffer {
			l.received(wireBuffer)
		}
	}
	one.received(wireBuffer)
	if b.holders != 0 {
		t.Error("held for little")
	}
	fill(&one)
	one.received(100)
	fill(&two)
	if b.holders != 2 || b.memory == nil {
		t.Errorf("%d hold it, memory %t", b.holders, b.memory != nil)
	}
	memory := b.memory
	one.close()
	one.close()
	fill(&one)
	for range 10 {
		two.received(100)
	}
	if b.holders != 0 || b.memory != nil {
		t.Errorf("afterwards %d hold it, memory %t", b.holders, b.memory != nil)
	}
	fill(&two)
	if b.memory != memory {
		t.Error("another one, though the first is still there")
	}
	two.close()
}

// A wire takes the ballast while it receives in bulk, and not beyond its end.
func TestWireBallast(t *testing.T) {
	var b ballast
	ours, peer := net.Pipe()
	w := newWire(ours, elastic{pool: &bufferPool{size: wireBuffer}, memory: newBudget(DefaultMaxBuffers)}, &b, closePatience, openBacklog(maxConnectionBacklog), func(int, int) {})
	go func() {
		for range 2 * ballastAfter / wireBuffer {
			if _, err := peer.Write(make([]byte, wireBuffer)); err != nil {
				t.Error(err)
			}
		}
	}()
	buf := make([]byte, wireBuffer)
	for got := 0; got < 2*ballastAfter; {
		n, err := w.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if b.holders != 1 {
		t.Errorf("%d hold it", b.holders)
	}
	_ = w.Close()
	_ = peer.Close()
	if b.holders != 0 {
		t.Error("held after the end")
	}
}
