package client

import (
	"io"
	"net"

	"google.golang.org/grpc/mem"
)

// receiveLimit is what may wait to be read; the agent is held back beyond it.
const receiveLimit = 256 << 10

// netReceiver holds what came from the guest until it is read.
type netReceiver struct {
	netQueue
	datagram bool
	items    []mem.BufferSlice // each is a message; only a datagram may be empty
	pos      int               // bytes of items[0] that have been read
}

// put waits for room and adds a message. It takes ownership of it.
func (r *netReceiver) put(data mem.BufferSlice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.size >= receiveLimit && !r.local && !r.ended {
		r.changed.Wait()
	}
	if r.local || r.ended || data.Len() == 0 && !r.datagram {
		data.Free()
		return
	}
	r.items = append(r.items, data)
	r.size += max(1, data.Len())
	r.changed.Broadcast()
}

// read is net.Conn's Read; the caller wraps its errors.
func (r *netReceiver) read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.local:
			return 0, net.ErrClosed
		case r.expired:
			return 0, errTimeout
		case len(r.items) > 0:
			return r.take(b), nil
		case r.ended && r.err != nil:
			return 0, r.err
		case r.ended:
			return 0, io.EOF
		case len(b) == 0 && !r.datagram:
			return 0, nil
		}
		r.changed.Wait()
	}
}

// take copies from the first message. What of a datagram does not fit is lost, as
// with any datagram socket.
func (r *netReceiver) take(b []byte) int {
	n, skip := 0, r.pos
	for _, piece := range r.items[0] {
		data := piece.ReadOnlyData()
		if skip >= len(data) {
			skip -= len(data)
			continue
		}
		n += copy(b[n:], data[skip:])
		skip = 0
		if n == len(b) {
			break
		}
	}
	if r.pos += n; r.datagram || r.pos == r.items[0].Len() {
		r.size -= max(1, r.items[0].Len())
		r.items[0].Free()
		r.items[0] = nil
		r.items, r.pos = r.items[1:], 0
		r.changed.Broadcast()
	}
	return n
}

// drop frees what nobody will read.
func (r *netReceiver) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, data := range r.items {
		data.Free()
	}
	r.items, r.size = nil, 0
	r.changed.Broadcast()
}
