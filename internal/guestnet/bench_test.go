//go:build linux

package guestnet

import (
	"net"
	"testing"
)

// BenchmarkLook is one look of a watch at 100 listeners, of which nothing
// changed, and List, which finds out whose they are.
func BenchmarkLook(b *testing.B) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
	}
	p := NewPorts()
	defer func() { _ = p.Close() }()
	b.Run("look", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.look(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.List(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
