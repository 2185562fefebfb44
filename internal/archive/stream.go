package archive

import (
	"errors"
	"fmt"
	"io"
)

// bufferSize is how much is read from or written to the stream at a time, and
// the most that either side holds of it.
const bufferSize = 256 << 10

// source is the buffered input of the decoder. Unlike bufio.Reader it hands its
// buffer out, so content goes from there to write(2) without another copy.
type source struct {
	r    io.Reader
	buf  []byte
	pos  int // buf[pos:end] is read and not consumed
	end  int
	rerr error // what r said last
}

func newSource(r io.Reader) *source {
	return &source{r: r, buf: make([]byte, bufferSize)}
}

// peek returns the next n ≤ bufferSize bytes without consuming them; the slice
// is valid until the next call. Fewer are left: io.ErrUnexpectedEOF, or r's error.
func (s *source) peek(n int) ([]byte, error) {
	if s.end-s.pos < n {
		if err := s.fill(n); err != nil {
			return nil, err
		}
	}
	return s.buf[s.pos : s.pos+n], nil
}

// fill reads until n bytes are there.
func (s *source) fill(n int) error {
	if s.pos+n > len(s.buf) || s.pos == s.end {
		copy(s.buf, s.buf[s.pos:s.end])
		s.pos, s.end = 0, s.end-s.pos
	}
	for empty := 0; s.end-s.pos < n; {
		if s.rerr != nil {
			return s.failure()
		}
		m, err := s.r.Read(s.buf[s.end:])
		s.end += m
		s.rerr = err
		if m > 0 || err != nil {
			empty = 0
		} else if empty++; empty == 100 {
			s.rerr = io.ErrNoProgress
		}
	}
	return nil
}

func (s *source) failure() error {
	if errors.Is(s.rerr, io.EOF) {
		return fmt.Errorf("archive is cut: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read archive: %w", s.rerr)
}

// chunk returns at least one and at most n of the next bytes, n > 0, and
// consumes them. The slice is valid until the next call.
func (s *source) chunk(n int64) ([]byte, error) {
	if s.pos == s.end {
		if err := s.fill(1); err != nil {
			return nil, err
		}
	}
	m := int(min(n, int64(s.end-s.pos)))
	b := s.buf[s.pos : s.pos+m]
	s.pos += m
	return b, nil
}

func (s *source) consume(n int) { s.pos += n }

// discard consumes n bytes.
func (s *source) discard(n int64) error {
	for n > 0 {
		b, err := s.chunk(n)
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// sink is the buffered output of the packer. Files are read right into its
// free room. Its first error stays.
type sink struct {
	w   io.Writer
	buf []byte
	n   int // buf[:n] is not yet written
}

func newSink(w io.Writer) *sink {
	return &sink{w: w, buf: make([]byte, bufferSize)}
}

// room returns the free part of the buffer, never empty; commit takes the first
// n bytes of it into the stream.
func (s *sink) room() ([]byte, error) {
	if s.n == len(s.buf) {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	return s.buf[s.n:], nil
}

func (s *sink) commit(n int) { s.n += n }

func (s *sink) flush() error {
	if s.n == 0 {
		return nil
	}
	m, err := s.w.Write(s.buf[:s.n])
	if err == nil && m < s.n {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	s.n = 0
	return nil
}

func (s *sink) write(b []byte) error {
	for len(b) > 0 {
		room, err := s.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		s.commit(n)
		b = b[n:]
	}
	return nil
}

// zeros writes n zero bytes.
func (s *sink) zeros(n int64) error {
	for n > 0 {
		room, err := s.room()
		if err != nil {
			return err
		}
		m := int(min(n, int64(len(room))))
		clear(room[:m])
		s.commit(m)
		n -= int64(m)
	}
	return nil
}
