package archive

import (
	"fmt"
	"strconv"
)

// maxExtents bounds the map of a sparse file in memory (16 MiB). A file with
// more is packed with its last holes as data.
const maxExtents = 1 << 20

// appendSparseMap appends the map that format 1.0 puts before the data: the
// number of extents, then offset and length of each, one decimal per line,
// filled with NULs to a whole block. An extent of no length at the end carries
// the size of a file that ends in a hole, as GNU tar writes it.
func appendSparseMap(b []byte, extents []extent, realSize int64) []byte {
	start := len(b)
	closing := len(extents) == 0 || extents[len(extents)-1].off+extents[len(extents)-1].len < realSize
	n := len(extents)
	if closing {
		n++
	}
	b = append(strconv.AppendInt(b, int64(n), 10), '\n')
	for _, e := range extents {
		b = append(strconv.AppendInt(b, e.off, 10), '\n')
		b = append(strconv.AppendInt(b, e.len, 10), '\n')
	}
	if closing {
		b = append(strconv.AppendInt(b, realSize, 10), '\n', '0', '\n')
	}
	return append(b, zeroBlock[:padding(int64(len(b)-start))]...)
}

// sparseMap reads the map of the entry h from its data and checks it: extents
// in order, without overlap, within the file, and as long together as the data
// that is left.
func (d *decoder) sparseMap(h *header) error {
	bad := func() error { return fmt.Errorf("%q: sparse map: %w", h.name, ErrHeader) }
	m := mapReader{d: d}
	n, err := m.number()
	if err != nil {
		return err
	}
	if m.bad || n > maxExtents {
		return bad()
	}
	var end, sum int64
	for range n {
		off, err := m.number()
		if err != nil {
			return err
		}
		length, err := m.number()
		if err != nil {
			return err
		}
		if m.bad || off < end || length > h.realSize-off {
			return bad()
		}
		end = off + length
		sum += length
		if length > 0 {
			h.sparse = append(h.sparse, extent{off, length})
		}
	}
	if sum != d.left {
		return bad()
	}
	return nil
}

// mapReader reads decimal lines from whole blocks of an entry's data.
type mapReader struct {
	d    *decoder
	rest []byte // unread part of the block at hand
	bad  bool   // a line was not a number, or the data ended
	buf  [blockSize]byte
}

func (m *mapReader) number() (int64, error) {
	var n int64
	for digits := 0; ; digits++ {
		if len(m.rest) == 0 {
			if err := m.block(); err != nil || m.bad {
				return 0, err
			}
		}
		c := m.rest[0]
		m.rest = m.rest[1:]
		switch {
		case c == '\n' && digits > 0:
			return n, nil
		case c < '0' || c > '9' || n > maxSize/10:
			m.bad = true
			return 0, nil
		}
		n = n*10 + int64(c-'0')
	}
}

func (m *mapReader) block() error {
	if m.d.left < blockSize {
		m.bad = true
		return nil
	}
	b, err := m.d.in.peek(blockSize)
	if err != nil {
		return err
	}
	m.rest = m.buf[:copy(m.buf[:], b)]
	m.d.in.consume(blockSize)
	m.d.left -= blockSize
	return nil
}
