package archive

import (
	"fmt"
	"strconv"
	"strings"
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

func sparseError(h *header) error {
	return fmt.Errorf("%q: sparse map: %w", h.name, ErrHeader)
}

// checkExtents checks a sparse file's map: extents in order, without overlap,
// within the file, and as long together as the data that is left.
func (d *decoder) checkExtents(h *header) error {
	var end, sum int64
	for _, e := range h.sparse {
		if e.off < end || e.len < 0 || e.len > h.realSize-e.off {
			return sparseError(h)
		}
		end = e.off + e.len
		sum += e.len
	}
	if sum != d.left || len(h.sparse) > maxExtents {
		return sparseError(h)
	}
	return nil
}

// sparseMap reads the map of format 1.0 from the entry's data.
func (d *decoder) sparseMap(h *header) error {
	m := mapReader{d: d}
	n, err := m.number()
	if err != nil {
		return err
	}
	if m.bad || n > maxExtents {
		return sparseError(h)
	}
	for range n {
		var e extent
		if e.off, err = m.number(); err != nil {
			return err
		}
		if e.len, err = m.number(); err != nil {
			return err
		}
		if m.bad {
			return sparseError(h)
		}
		h.sparse = append(h.sparse, e)
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

// GNU tar's own format (typeflag 'S') has the map in the header and in blocks
// behind it.
const (
	offGNUSparse    = 386 // four extents
	offGNUExtended  = 482 // not 0: a block with more follows
	offGNURealSize  = 483
	offNextExtended = 504 // the same, behind the 21 extents of such a block
	lenGNUExtent    = 2 * lenSize
)

// gnuSparse takes the map from a header block of typeflag 'S', which has been
// parsed and is consumed here, and from the blocks behind it.
func (d *decoder) gnuSparse(block []byte, h *header) error {
	p := fieldParser{}
	h.isSparse, h.kind = true, kindFile
	h.realSize = p.number(block[offGNURealSize : offGNURealSize+lenSize])
	fields, more := block[offGNUSparse:offGNUExtended], block[offGNUExtended] != 0
	for {
		for ; len(fields) >= lenGNUExtent && fields[0] != 0; fields = fields[lenGNUExtent:] {
			h.sparse = append(h.sparse, extent{p.number(fields[:lenSize]), p.number(fields[lenSize:lenGNUExtent])})
		}
		d.in.consume(blockSize)
		if p.bad || h.realSize < 0 || len(h.sparse) > maxExtents {
			return sparseError(h)
		}
		if !more {
			return nil
		}
		block, err := d.in.peek(blockSize)
		if err != nil {
			return err
		}
		fields, more = block[:offNextExtended], block[offNextExtended] != 0
	}
}

// paxExtents takes the map of the pax formats 0.0 and 0.1, which is in the
// records: offsets and lengths in turn.
func (p *paxRecords) paxExtents(h *header) error {
	h.isSparse = true
	numbers := strings.Split(p.sparseMap, ",")
	if p.sparseMap == "" {
		numbers = nil
	}
	if len(numbers)%2 != 0 {
		return sparseError(h)
	}
	for i := 0; i < len(numbers); i += 2 {
		off, err := strconv.ParseUint(numbers[i], 10, 62)
		length, lerr := strconv.ParseUint(numbers[i+1], 10, 62)
		if err != nil || lerr != nil {
			return sparseError(h)
		}
		h.sparse = append(h.sparse, extent{int64(off), int64(length)})
	}
	return nil
}
