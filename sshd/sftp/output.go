//go:build linux

package sftp

import (
	"io"
	"sync"
	"sync/atomic"
)

const (
	// flushSize is how many bytes of answers are sent even if more requests have
	// come already.
	flushSize = 128 << 10
	// bulkSize is how many bytes of answers are worth handing to another
	// goroutine, so that the next read from a file overlaps with the write.
	bulkSize = 16 << 10
	// bulkBuffers is how many buffers of packets wait for the client to read.
	bulkBuffers = 2
	// bulkMemory is what the buffers of a session that sends in bulk hold: these,
	// one that is being written and one that is being filled.
	bulkMemory = (bulkBuffers + 2) * maxPacket
	// leanSize is the most that is sent at once without that memory.
	leanSize = 32 << 10
)

// output sends packets. Nothing is sent after a write has failed.
type output struct {
	w       io.Writer
	queue   chan []byte
	free    chan []byte
	pending atomic.Int32 // buffers in queue or being written
	done    chan struct{}

	mu  sync.Mutex // held while writing
	err error
}

func newOutput(w io.Writer) *output {
	o := &output{
		w:     w,
		queue: make(chan []byte, bulkBuffers),
		free:  make(chan []byte, bulkBuffers+1),
		done:  make(chan struct{}),
	}
	go o.drain()
	return o
}

func (o *output) drain() {
	defer close(o.done)
	for packets := range o.queue {
		o.write(packets)
		o.pending.Add(-1)
		select {
		case o.free <- packets[:0]:
		default:
		}
	}
}

// write sends packets before it returns. Any goroutine may call it.
func (o *output) write(packets []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		_, o.err = o.w.Write(packets)
	}
}

// send takes packets over and returns an empty buffer for the next ones. A
// client that does not read makes it wait. It is for one goroutine.
func (o *output) send(packets []byte) []byte {
	if len(packets) < bulkSize && o.pending.Load() == 0 {
		o.write(packets)
		return packets[:0]
	}
	o.pending.Add(1)
	o.queue <- packets
	select {
	case empty := <-o.free:
		return empty
	default:
		return nil
	}
}

// failed returns the error of the first write that failed.
func (o *output) failed() error {
	if !o.mu.TryLock() {
		return nil // a write is on its way: the next call will tell
	}
	defer o.mu.Unlock()
	return o.err
}

// close waits until all is sent and returns what failed.
func (o *output) close() error {
	close(o.queue)
	<-o.done
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
