//go:build linux

package agent

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/mem"
)

func input(n int) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(make([]byte, n))} }

// TestInputQueueBound fills the queue by bytes and by messages: nothing beyond
// the bound is accepted before something was taken.
func TestInputQueueBound(t *testing.T) {
	ctx := testContext(t)
	ended, end := context.WithCancel(context.Background())
	end()
	for _, size := range []int{1, 1000, maxInput / 2, maxInput, 2 * maxInput} {
		q := newInputQueue()
		held := 0
		for {
			// With a context that has ended, put says whether it would wait.
			if err := q.put(ended, input(size)); err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				break
			}
			held++
		}
		if want := max(1, min(maxInput/size, maxInputItems)); held != want {
			t.Errorf("%d messages of %d bytes were queued, want %d", held, size, want)
		}
		put := make(chan error)
		go func() { put <- q.put(ctx, input(size)) }()
		if data, err := q.take(ctx); err != nil || data.Len() != size {
			t.Errorf("took %d bytes, %v", data.Len(), err)
		}
		if err := <-put; err != nil {
			t.Error(err)
		}
	}
}

// TestInputQueueDrop frees who waits and swallows what comes.
func TestInputQueueDrop(t *testing.T) {
	ctx := testContext(t)
	q := newInputQueue()
	if err := q.put(ctx, input(maxInput)); err != nil {
		t.Fatal(err)
	}
	put := make(chan error)
	go func() { put <- q.put(ctx, input(1)) }()
	q.drop()
	if err := <-put; err != nil {
		t.Error(err)
	}
	for range 10 {
		if err := q.put(ctx, input(maxInput)); err != nil {
			t.Fatal(err)
		}
	}
	if len(q.items) != 0 || q.size != 0 {
		t.Errorf("%d items of %d bytes are held", len(q.items), q.size)
	}
}
