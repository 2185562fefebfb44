package wire

import "sync"

// Pool hands out buffers for payloads and takes them back when their last
// reference is freed. The zero value is ready; it must not be copied. It is
// safe for concurrent use.
//
// A payload is made like this; with n == 0, Put the buffer back instead:
//
//	b := pool.Get(wire.ChunkSize)
//	n, err := file.Read(*b)
//	*b = (*b)[:n]
//	payload := mem.NewBuffer(b, pool)
//
// It is gRPC's pool without the clearing of every buffer, and with a size class
// for chunks: the classes of mem.DefaultBufferPool jump from 32 KiB to 1 MiB.
// It satisfies mem.BufferPool.
type Pool struct {
	classes [len(classSizes)]sync.Pool
}

// classSizes are the capacities that are pooled: a small write, an HTTP/2
// frame of gRPC, a pipe's worth, a chunk, the largest payload.
var classSizes = [...]int{4 << 10, 16 << 10, 64 << 10, ChunkSize, MaxData}

// Get returns a buffer of the given length with arbitrary content; the caller
// owns it until Put, or until the mem.Buffer made of it is freed.
func (p *Pool) Get(length int) *[]byte {
	for i, size := range classSizes {
		if length > size {
			continue
		}
		if b, ok := p.classes[i].Get().(*[]byte); ok {
			*b = (*b)[:length]
			return b
		}
		b := make([]byte, length, size)
		return &b
	}
	b := make([]byte, length)
	return &b
}

// Put takes a buffer back that nobody uses any more.
func (p *Pool) Put(b *[]byte) {
	for i, size := range classSizes {
		if cap(*b) == size {
			p.classes[i].Put(b)
			return
		}
	}
}
