package parallel

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A recorder keeps what a Fitter applied.
type recorder struct {
	mu   sync.Mutex
	seen []int
}

func (r *recorder) apply(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, n)
}

func (r *recorder) take() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// pipes is a listener whose connections are pipes that swallow everything.
type pipes struct{ net.Listener }

func (pipes) Accept() (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	return ours, nil
}

func accept(t *testing.T, f *Fitter, kind Kind) net.Conn {
	t.Helper()
	c, err := f.Listener(pipes{}, kind).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, n int) {
	t.Helper()
	for buf := make([]byte, 64<<10); n > 0; n -= len(buf) {
		if _, err := c.Write(buf[:min(len(buf), n)]); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, r *recorder, want ...int) {
	t.Helper()
	synctest.Wait()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}

func TestFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		f := New(r.apply)
		shell := accept(t, f, Serial)
		send(t, shell, bulk-1)
		check(t, &r)
		send(t, shell, 1)
		check(t, &r, 1)

		second := accept(t, f, Serial)
		send(t, second, bulk)
		check(t, &r, 2)
		host := accept(t, f, Parallel)
		send(t, host, bulk)
		check(t, &r, 0) // as many as there are
		_ = host.Close()
		check(t, &r, 2)
		_ = second.Close()
		check(t, &r, 1)

		// It goes on for a few periods, then only now and then.
		time.Sleep(period / 2) // the Fitter looks between what follows
		for range 5 {
			send(t, shell, bulk/2)
			time.Sleep(period)
		}
		check(t, &r)
		send(t, shell, bulk/8)
		time.Sleep(2 * period)
		check(t, &r, 0)
		// The first of these ends a long quiet time, as far as can be seen.
		send(t, shell, 2*bulk)
		check(t, &r, 1)
	})
}

// Bytes that come together over a long time are no bulk.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		c := accept(t, New(r.apply), Serial)
		for range 10 {
			send(t, c, bulk/4)
			time.Sleep(period)
		}
		check(t, &r)
		_ = c.Close()
		check(t, &r)
	})
}

// A connection that has been closed does not come back by what it still reads.
func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		f := New(r.apply)
		c := accept(t, f, Serial).(*conn)
		_ = c.Close()
		c.count(bulk)
		check(t, &r)
	})
}

func TestManyAtOnce(t *testing.T) {
	var r recorder
	f := New(r.apply)
	var tasks sync.WaitGroup
	for i := range 16 {
		c := accept(t, f, Kind(i%2))
		tasks.Go(func() {
			for range 4 {
				send(t, c, bulk)
			}
			_ = c.Close()
		})
	}
	tasks.Wait()
	if seen := r.take(); len(seen) > 0 && seen[len(seen)-1] != 0 {
		t.Errorf("applied %v, and not the default at the end", seen)
	}
}
