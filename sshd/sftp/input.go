//go:build linux

package sftp

import (
	"encoding/binary"
	"errors"
	"io"
)

// inputBuffer is what an input begins with: enough for a dozen requests, or for
// one WRITE of the size that small clients use.
const inputBuffer = 64 << 10

// maxInput holds the largest packet, or many smaller ones of a client that sends
// ahead, which are then answered together.
const maxInput = lengthSize + maxPacket

// input cuts a stream into packets. Its buffer grows with what has arrived,
// never by what a length promises.
type input struct {
	r          io.Reader
	buf        []byte
	begin, end int  // what is in buf
	ahead      bool // the last read left no room: there is more
}

func newInput(r io.Reader) *input { return &input{r: r, buf: make([]byte, inputBuffer)} }

// length is the size of the packet that comes next with its length field, 0
// while that has not arrived.
func (in *input) length() (int, error) {
	if in.end-in.begin < lengthSize {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(in.buf[in.begin:])
	if n == 0 || n > maxPacket {
		return 0, errTooLong
	}
	return lengthSize + int(n), nil
}

// buffered reports whether next returns without reading.
func (in *input) buffered() bool {
	n, err := in.length()
	return err != nil || n > 0 && in.end-in.begin >= n
}

// next returns the next packet, at least one byte, which is valid until the
// call after it; io.EOF at the end, io.ErrUnexpectedEOF in the midst of one.
func (in *input) next() ([]byte, error) {
	for {
		n, err := in.length()
		if err != nil {
			return nil, err
		}
		have := in.end - in.begin
		if n > 0 && have >= n {
			packet := in.buf[in.begin+lengthSize : in.begin+n]
			in.begin += n
			return packet, nil
		}
		if err := in.fill(n); err != nil {
			if errors.Is(err, io.EOF) && have > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// fill reads more of a packet of n bytes, 0 if that is not known.
func (in *input) fill(n int) error {
	if in.begin == in.end {
		in.begin, in.end = 0, 0
	}
	if in.ahead && len(in.buf) < maxInput {
		grown := make([]byte, min(2*len(in.buf), maxInput))
		in.end = copy(grown, in.buf[in.begin:in.end])
		in.buf, in.begin = grown, 0
	} else if in.begin > 0 && (in.end == len(in.buf) || in.begin+n > len(in.buf)) {
		in.end = copy(in.buf, in.buf[in.begin:in.end])
		in.begin = 0
	}
	free := in.buf[in.end:]
	// Of a large packet exactly the rest: what follows it would have to be
	// moved to the front afterwards.
	if missing := n - (in.end - in.begin); missing >= inputBuffer/2 && missing < len(free) {
		free = free[:missing]
	}
	got, err := in.r.Read(free)
	in.end += got
	in.ahead = in.end == len(in.buf)
	if got > 0 {
		return nil
	}
	return err
}
