package client

import (
	"cmp"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/wire"
)

// bulkSender sends bytes as messages of one bytes field, without copying them.
// It is for one goroutine.
type bulkSender struct {
	call  grpc.ClientStream
	field protowire.Number
	pool  *wire.Pool
	chunk int // how much to send at once; 0: wire.ChunkSize
}

// buffer returns a chunk to be filled, and then given to send or drop.
func (s *bulkSender) buffer() *[]byte { return s.pool.Get(cmp.Or(s.chunk, wire.ChunkSize)) }

// drop gives a chunk back unsent.
func (s *bulkSender) drop(b *[]byte) { s.pool.Put(b) }

// send sends the first n bytes of a chunk, which is the sender's from then on.
// The error io.EOF means that the agent has ended the call; receiving says why.
func (s *bulkSender) send(b *[]byte, n int) error {
	if n == 0 {
		s.pool.Put(b)
		return nil
	}
	*b = (*b)[:n]
	payload := mem.NewBuffer(b, s.pool)
	defer payload.Free()
	return s.call.SendMsg(&wire.Data{Field: s.field, Payload: payload})
}

// fill reads until b is full or r is at its end, which it then reports.
func fill(r io.Reader, b []byte) (n int, end bool, err error) {
	for n < len(b) {
		m, err := r.Read(b[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// contiguous copies what was received into one piece, in scratch if it fits,
// and gives the received buffers back.
func contiguous(in *wire.Incoming, scratch []byte) []byte {
	n := in.Len()
	if cap(scratch) < n {
		scratch = make([]byte, n, max(n, 4<<10))
	}
	scratch = scratch[:n]
	in.CopyTo(scratch)
	in.Free()
	return scratch
}
