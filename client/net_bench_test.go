//go:build linux

package client_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// BenchmarkForward moves data through a forward, and, as what to compare it
// with, through a connection of the same kind without one: a unix socket to an
// agent in this process and TCP from there, or TCP alone.
func BenchmarkForward(b *testing.B) {
	c, _ := live(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	direct := func(network, address string) (net.Conn, error) { return net.Dial(network, address) }
	forward := func(network, address string) (net.Conn, error) { return c.DialContext(b.Context(), network, address) }
	for _, way := range []string{"up", "down"} {
		b.Run(way+"/direct", func(b *testing.B) { benchForward(b, l, direct, way == "up") })
		b.Run(way+"/forward", func(b *testing.B) { benchForward(b, l, forward, way == "up") })
	}
	b.Run("round trip/direct", func(b *testing.B) { benchRoundTrip(b, l, direct) })
	b.Run("round trip/forward", func(b *testing.B) { benchRoundTrip(b, l, forward) })
}

const benchForwardSize = 64 << 20

func benchPair(b *testing.B, l net.Listener, dial func(network, address string) (net.Conn, error)) (near, far net.Conn) {
	b.Helper()
	near, err := dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}

func benchForward(b *testing.B, l net.Listener, dial func(network, address string) (net.Conn, error), up bool) {
	from, to := benchPair(b, l, dial)
	if !up {
		from, to = to, from
	}
	data, buffer := make([]byte, 256<<10), make([]byte, 256<<10)
	b.SetBytes(benchForwardSize)
	for b.Loop() {
		var sending sync.WaitGroup
		sending.Go(func() {
			for range benchForwardSize / len(data) {
				if _, err := from.Write(data); err != nil {
					b.Error(err)
					return
				}
			}
		})
		for left := benchForwardSize; left > 0; {
			n, err := to.Read(buffer[:min(left, len(buffer))])
			if left -= n; err != nil {
				b.Fatal(err)
			}
		}
		sending.Wait()
	}
}

func benchRoundTrip(b *testing.B, l net.Listener, dial func(network, address string) (net.Conn, error)) {
	near, far := benchPair(b, l, dial)
	var answering sync.WaitGroup
	answering.Go(func() { _, _ = io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far}) })
	ping := make([]byte, 16)
	for b.Loop() {
		if _, err := near.Write(ping); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(near, ping); err != nil {
			b.Fatal(err)
		}
	}
	_ = near.Close()
	answering.Wait()
}
