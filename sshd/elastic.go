//go:build linux

package sshd

import "sync"

const (
	smallBuffer = 4 << 10   // of what is idle, or types and answers
	copyBuffer  = 128 << 10 // of what copies in bulk: four full packets
	wireBuffer  = 256 << 10 // of the connection itself
)

// A bufferPool has the large buffers of one size. The zero value with a size
// is ready to use.
type bufferPool struct {
	size int
	pool sync.Pool
}

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, p.size)
}

func (p *bufferPool) put(b []byte) {
	if cap(b) >= p.size {
		b = b[:p.size]
		p.pool.Put(&b)
	}
}

// An elastic buffer is small while little comes, which is what waits for most
// of the time, and large in bulk, if there is memory for that. One goroutine
// uses it, and releases it.
type elastic struct {
	pool   *bufferPool
	memory *budget // of large buffers, in bytes
	small  []byte
	large  []byte // nil unless in bulk
}

// next returns a buffer to read into. Last is how much the previous read
// filled; the buffer of that is not valid any more.
func (e *elastic) next(last int) []byte {
	switch {
	case e.large != nil && last < smallBuffer:
		e.release()
	case e.large == nil && last >= smallBuffer && e.memory.Take(e.pool.size):
		e.large = e.pool.get()
	}
	if e.large != nil {
		return e.large
	}
	if e.small == nil {
		e.small = make([]byte, smallBuffer)
	}
	return e.small
}

func (e *elastic) release() {
	if e.large != nil {
		e.pool.put(e.large)
		e.large = nil
		e.memory.Give(e.pool.size)
	}
}
