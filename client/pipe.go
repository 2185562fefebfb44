package client

import (
	"io"
	"sync"
)

// pipeSize is what a pipe holds, as the kernel's pipes do: a program that reads
// all of stdout before stderr must not block on a little of the latter.
const pipeSize = 64 << 10

// pipe is a buffered pipe within this program.
type pipe struct {
	mu      sync.Mutex
	changed sync.Cond
	data    []byte // ring
	start   int    // of what is to be read
	size    int
	ended   bool // the writer is done
	closed  bool // the reader is
}

func newPipe() *pipe {
	p := &pipe{}
	p.changed.L = &p.mu
	return p
}

// write blocks while the pipe is full. It returns io.ErrClosedPipe once the
// reader is gone.
func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data == nil {
		p.data = make([]byte, pipeSize)
	}
	written := 0
	for written < len(b) {
		for p.size == len(p.data) && !p.closed {
			p.changed.Wait()
		}
		if p.closed {
			return written, io.ErrClosedPipe
		}
		free := p.data[(p.start+p.size)%len(p.data):]
		n := copy(free[:min(len(free), len(p.data)-p.size)], b[written:])
		p.size += n
		written += n
		p.changed.Broadcast()
	}
	return written, nil
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.size == 0 && !p.ended && !p.closed && len(b) > 0 {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, io.ErrClosedPipe
	case p.size == 0 && p.ended:
		return 0, io.EOF
	}
	n := copy(b, p.data[p.start:min(p.start+p.size, len(p.data))])
	p.start = (p.start + n) % max(len(p.data), 1)
	p.size -= n
	p.changed.Broadcast()
	return n, nil
}

// end tells the reader that nothing follows what is in the pipe.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}

// close makes writes fail and drops what is in the pipe.
func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// pipeReader is the end that a program holds.
type pipeReader struct{ p *pipe }

func (r pipeReader) Read(b []byte) (int, error) { return r.p.read(b) }

func (r pipeReader) Close() error {
	r.p.close()
	return nil
}

// pipeWriter is the end that a command writes to.
type pipeWriter struct{ p *pipe }

func (w pipeWriter) Write(b []byte) (int, error) { return w.p.write(b) }
