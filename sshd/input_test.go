//go:build linux

package sshd

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
)

// openBacklog opens one of its own ledger.
func openBacklog(limit int64) *backlog {
	ledger := &ledger{limit: 2 * limit, memory: func() int64 { return 2 * limit }}
	return ledger.open(func() {})
}

// What was compacted comes first, then the rest, then the end.
func TestInputCompacted(t *testing.T) {
	b := openBacklog(1 << 20)
	r, w := io.Pipe()
	in := newInput(r, b)
	data := bytes.Repeat([]byte("0123456789"), 10_000) // more than a channel's spill
	go func() {
		for len(data) > 0 {
			n, _ := w.Write(data[:min(7, len(data))])
			data = data[n:]
		}
		_ = w.Close()
	}()
	want := bytes.Clone(data)
	b.compact()
	eventually(t, "its spill is full", func() bool { return b.spilled.Load() >= b.limit/spillShare })
	b.compact() // does nothing any more
	got, err := io.ReadAll(struct{ io.Reader }{in})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	b.wait()
	if b.stalled.Load() != 0 || b.spilled.Load() != 0 || len(b.inputs) != 0 {
		t.Errorf("left: %d stalled, %d bytes, %d inputs", b.stalled.Load(), b.spilled.Load(), len(b.inputs))
	}
}

// A reader that comes while somebody compacts gets what that one finds.
func TestInputReaderReturns(t *testing.T) {
	b := openBacklog(1 << 20)
	r, w := io.Pipe()
	in := newInput(r, b)
	b.compact()
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, 10)
		n, _ := in.Read(buf)
		got <- string(buf[:n])
	}()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "x" {
		t.Errorf("got %q", s)
	}
	_ = w.Close()
	if n, err := in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	in.close()
	b.wait()
	if b.stalled.Load() != 0 {
		t.Errorf("%d are stalled", b.stalled.Load())
	}
}

// The account ends connections whose peer fills channels that nobody reads, and
// no others.
func TestBacklogLimit(t *testing.T) {
	b := openBacklog(1000)
	in := newInput(zeros{}, b)
	if err := b.arrived(900); err != nil {
		t.Error(err)
	}
	eventually(t, "as much as may be is compacted", func() bool { return b.spilled.Load() > 0 && b.stalled.Load() == 1 })
	for range 10_000 { // what is read does not count
		b.read(1000)
		if err := b.arrived(1052); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.arrived(2000); !errors.Is(err, errBacklog) {
		t.Errorf("got %v", err)
	}
	in.close()
	if err := b.arrived(1 << 20); err != nil {
		t.Errorf("with nobody stalled: %v", err)
	}
	b.wait()
}

// A channel that is being compacted is not read by anybody.
func TestBacklogCompacting(t *testing.T) {
	b := openBacklog(1000)
	r, w := io.Pipe()
	in := newInput(r, b)
	if err := b.arrived(900); err != nil {
		t.Error(err)
	}
	if in.claim(false) {
		t.Fatal("nobody compacts")
	}
	if err := b.arrived(900); !errors.Is(err, errBacklog) {
		t.Errorf("got %v", err)
	}
	_ = w.Close()
	b.wait()
	if b.stalled.Load() != 0 {
		t.Errorf("%d are stalled", b.stalled.Load())
	}
}

// A channel may end at any moment, also while it is about to be compacted.
func TestBacklogChannelEnds(t *testing.T) {
	for range 2000 {
		b := openBacklog(1 << 20)
		ins := make([]*input, 8)
		for i := range ins {
			ins[i] = newInput(bytes.NewReader(nil), b)
		}
		var ends sync.WaitGroup
		for _, in := range ins {
			ends.Go(in.close)
		}
		b.compact()
		ends.Wait()
		b.wait()
		if b.stalled.Load() != 0 || len(b.inputs) != 0 {
			t.Fatalf("left: %d stalled, %d inputs", b.stalled.Load(), len(b.inputs))
		}
	}
}
