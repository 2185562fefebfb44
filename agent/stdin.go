//go:build linux

package agent

import (
	"context"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/proc"
)

// The input that one Exec stream may have waiting for a process that does not
// read, besides the piece that is being written: in bytes and in messages.
// Beyond it the stream is not read on, which is what holds the client back;
// signals that it sends behind that much input wait with it.
const (
	maxInput      = 1 << 20
	maxInputItems = 4096
)

// inputQueue passes stdin from the goroutine that reads a stream to the one
// that may block in writing to the process, so that resizes and signals never
// wait for the process.
type inputQueue struct {
	filled chan struct{} // capacity 1: there is something to take
	room   chan struct{} // capacity 1: there may be room again

	mu       sync.Mutex
	items    []mem.BufferSlice // nil is end of file
	size     int
	dropping bool
}

func newInputQueue() *inputQueue {
	return &inputQueue{filled: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put queues data, which becomes the queue's; nil is end of file. It blocks
// while the queue is full, and returns ctx's error if that ends first.
func (q *inputQueue) put(ctx context.Context, data mem.BufferSlice) error {
	size := data.Len()
	for {
		q.mu.Lock()
		switch {
		case q.dropping:
			q.mu.Unlock()
			data.Free()
			return nil
		case len(q.items) == 0, q.size+size <= maxInput && len(q.items) < maxInputItems:
			q.items = append(q.items, data)
			q.size += size
			q.mu.Unlock()
			poke(q.filled)
			return nil
		}
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-ctx.Done():
			data.Free()
			return ctx.Err()
		}
	}
}

// take returns the oldest item, which becomes the caller's.
func (q *inputQueue) take(ctx context.Context) (mem.BufferSlice, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			data := q.items[0]
			q.items[0] = nil
			q.items = q.items[1:]
			q.size -= data.Len()
			q.mu.Unlock()
			poke(q.room)
			return data, nil
		}
		q.mu.Unlock()
		select {
		case <-q.filled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// drop throws away what is queued and whatever is put later: nobody reads any
// more, and a client that goes on sending, as one may into a broken pipe of
// which it does not know yet, must not be stopped by it.
func (q *inputQueue) drop() {
	q.mu.Lock()
	items := q.items
	q.items, q.size, q.dropping = nil, 0, true
	q.mu.Unlock()
	for _, data := range items {
		data.Free()
	}
	poke(q.room)
}

// feed writes the queue to p until end of file, an error or ctx's end. A
// process that reads no more is not an error: the exit says what became of it.
func (q *inputQueue) feed(ctx context.Context, p *proc.Process) (err error) {
	defer recoverTo(&err)
	defer q.drop()
	for {
		data, err := q.take(ctx)
		if err != nil {
			return err
		}
		if data == nil {
			_ = p.CloseStdin(ctx) // fails if it has ended, or with ctx
			return nil
		}
		err = writeAll(ctx, p, data)
		data.Free()
		if err != nil {
			return ctx.Err()
		}
	}
}

// writeAll writes data piece by piece.
func writeAll(ctx context.Context, p *proc.Process, data mem.BufferSlice) error {
	for _, piece := range data {
		if _, err := p.Write(ctx, piece.ReadOnlyData()); err != nil {
			return err
		}
	}
	return nil
}

// poke wakes whoever waits on c, a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
