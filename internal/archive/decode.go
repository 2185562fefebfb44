package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// decoder reads headers and the data that follows them: ustar, pax, GNU and
// old (v7) archives. Package archive/tar is not used for it because its Reader
// hides a sparse file's holes, which would have to be read as zeros (minutes
// for a disk image) and found again, and because a header costs it dozens of
// allocations. The tests hold this decoder against that one.
type decoder struct {
	in   *source
	left int64 // data of the current entry that has not been read
	pad  int64 // padding behind it
	pax  paxRecords

	gnuName, gnuLink string // from GNU long-name headers, for the next entry
}

// maxTrailer bounds what may follow the end marker: tars fill up their last
// record, usually to 10 KiB.
const maxTrailer = 1 << 20

// next skips what is left of the current entry and reads the next one's header
// into h. At the end of the archive it returns io.EOF. A stream that ends
// without the end marker is cut, not ended.
func (d *decoder) next(h *header) error {
	if err := d.in.discard(d.left + d.pad); err != nil {
		return err
	}
	d.left, d.pad = 0, 0
	d.pax.reset()
	d.gnuName, d.gnuLink = "", ""
	for {
		block, err := d.in.peek(blockSize)
		if err != nil {
			return err
		}
		if bytes.Equal(block, zeroBlock[:]) {
			return d.end()
		}
		*h = header{}
		if err := parseUstar(block, h); err != nil {
			return err
		}
		flag := block[offType]
		if flag == 'S' {
			if err := d.gnuSparse(block, h); err != nil {
				return err
			}
			return d.entry(h)
		}
		d.in.consume(blockSize)
		meta, err := d.meta(flag, h)
		if err != nil {
			return err
		}
		if !meta {
			return d.entry(h)
		}
	}
}

// end consumes the end marker and what fills the last record.
func (d *decoder) end() error {
	for n := 0; n <= maxTrailer; {
		b, err := d.in.chunk(bufferSize)
		if err != nil && errors.Is(d.in.rerr, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return err
		}
		n += len(b)
	}
	return fmt.Errorf("data after the end of the archive: %w", ErrHeader)
}

// meta takes in a header that only describes the next one, if this is one.
func (d *decoder) meta(flag byte, h *header) (bool, error) {
	switch flag {
	case 'x', 'L', 'K':
		if h.size > maxMeta {
			return true, fmt.Errorf("%d bytes of metadata: %w", h.size, ErrHeader)
		}
		body := make([]byte, 0, h.size+padding(h.size))
		for len(body) < cap(body) {
			b, err := d.in.chunk(int64(cap(body) - len(body)))
			if err != nil {
				return true, err
			}
			body = append(body, b...)
		}
		body = body[:h.size]
		switch flag {
		case 'x':
			d.pax.reset() // or a row of them would fill the memory
			return true, d.pax.parse(string(body))
		case 'L':
			d.gnuName = cString(body)
		case 'K':
			d.gnuLink = cString(body)
		}
		return true, nil
	case 'g', 'X': // records for all entries (git puts its commit id there), Solaris's pax
		return true, d.in.discard(h.size + padding(h.size))
	}
	return false, nil
}

// entry completes h from the headers before it and prepares to read its data.
func (d *decoder) entry(h *header) error {
	if d.gnuName != "" {
		h.name = d.gnuName
	}
	if d.gnuLink != "" {
		h.link = d.gnuLink
	}
	if err := d.pax.apply(h); err != nil {
		return fmt.Errorf("%q: %w", h.name, err)
	}
	if h.kind == kindFile && strings.HasSuffix(h.name, "/") && !h.isSparse {
		h.kind = kindDir // v7 had no type for directories
	}
	if !h.kind.hasData() {
		h.size = 0
	}
	if h.name == "" || strings.IndexByte(h.name, 0) >= 0 || strings.IndexByte(h.link, 0) >= 0 {
		return fmt.Errorf("name %q, link %q: %w", h.name, h.link, ErrHeader)
	}
	if (h.kind == kindHardlink || h.kind == kindSymlink) && h.link == "" {
		return fmt.Errorf("%q: link without a target: %w", h.name, ErrHeader)
	}
	d.left, d.pad = h.size, padding(h.size)
	if !h.isSparse {
		return nil
	}
	if d.pax.sparseMajor != "" {
		if err := d.sparseMap(h); err != nil {
			return err
		}
	}
	return d.checkExtents(h)
}

// data returns the entry's next bytes, at most limit, or io.EOF at its end. The
// slice is valid until the next call.
func (d *decoder) data(limit int64) ([]byte, error) {
	if d.left == 0 {
		return nil, io.EOF
	}
	b, err := d.in.chunk(min(d.left, limit))
	d.left -= int64(len(b))
	return b, err
}

// whole returns all of the entry's data, which must fit into the buffer: it has
// arrived in full when this returns.
func (d *decoder) whole() ([]byte, error) {
	b, err := d.in.peek(int(d.left))
	if err != nil {
		return nil, err
	}
	d.in.consume(int(d.left))
	d.left = 0
	return b, nil
}

// parseUstar fills h from a header block.
func parseUstar(b []byte, h *header) error {
	p := fieldParser{}
	unsigned, signed := checksums(b)
	if sum := p.number(b[offChecksum:offType]); p.bad || (sum != unsigned && sum != signed) {
		return fmt.Errorf("checksum does not match: %w", ErrHeader)
	}
	h.name = cString(b[offName : offName+lenName])
	h.link = cString(b[offLink : offLink+lenName])
	h.mode = uint32(p.number(b[offMode:offUID])) & 0o7777
	h.uid = p.number(b[offUID:offGID])
	h.gid = p.number(b[offGID:offSize])
	h.size = p.number(b[offSize:offMtime])
	h.mtime = time.Unix(p.number(b[offMtime:offChecksum]), 0)
	h.kind = kindOf(b[offType])
	if string(b[offMagic:offMagic+5]) == "ustar" {
		h.uname = cString(b[offUname : offUname+lenOwner])
		h.gname = cString(b[offGname : offGname+lenOwner])
		if h.kind == kindChar || h.kind == kindBlock {
			h.major = uint32(p.number(b[offMajor:offMinor]))
			h.minor = uint32(p.number(b[offMinor:offPrefix]))
		}
		if b[offMagic+5] == 0 { // GNU's own format ("ustar  ") has other things there
			if prefix := cString(b[offPrefix : offPrefix+155]); prefix != "" {
				h.name = prefix + "/" + h.name
			}
		}
	}
	if p.bad || h.size < 0 || h.size > maxSize {
		return fmt.Errorf("%q: bad number: %w", h.name, ErrHeader)
	}
	return nil
}

func kindOf(flag byte) kind {
	switch flag {
	case 0, '7': // v7's regular file; a contiguous file
		return kindFile
	case '0', '1', '2', '3', '4', '5', '6':
		return kind(flag)
	}
	return kindUnknown
}

// fieldParser reads numeric fields and remembers whether one was malformed.
type fieldParser struct{ bad bool }

// number parses octal digits between blanks and NULs, or GNU's base-256: a
// two's complement number, big endian, with the first bit set to mark it.
func (p *fieldParser) number(f []byte) int64 {
	if f[0]&0x80 != 0 {
		return p.base256(f)
	}
	for len(f) > 0 && isBlank(f[0]) {
		f = f[1:]
	}
	for len(f) > 0 && isBlank(f[len(f)-1]) {
		f = f[:len(f)-1]
	}
	var n int64
	for _, c := range f {
		if c < '0' || c > '7' || n>>59 != 0 {
			p.bad = true
			return 0
		}
		n = n<<3 | int64(c-'0')
	}
	return n
}

func isBlank(c byte) bool { return c == ' ' || c == 0 }

func (p *fieldParser) base256(f []byte) int64 {
	var n int64
	if f[0]&0x40 != 0 {
		n = -1
	}
	for i, c := range f {
		if i == 0 {
			c = c&0x7f | c&0x40<<1 // the mark gives way to the sign
		}
		if next := n<<8 | int64(c); next>>8 == n {
			n = next
		} else {
			p.bad = true
		}
	}
	return n
}

// cString returns f up to its first NUL.
func cString(f []byte) string {
	if i := bytes.IndexByte(f, 0); i >= 0 {
		f = f[:i]
	}
	return string(f)
}

// parseTime parses a pax time, a decimal fraction of seconds. Digits beyond
// nanoseconds are cut.
func parseTime(s string) (time.Time, bool) {
	if strings.Contains(s, "e") { // Python writes small numbers as floats
		f, err := strconv.ParseFloat(s, 64)
		return time.Unix(0, int64(f*1e9)), err == nil && f > -1 && f < 1
	}
	whole, frac, _ := strings.Cut(s, ".")
	negative := strings.HasPrefix(whole, "-")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil && whole != "-" && whole != "" {
		return time.Time{}, false
	}
	var nsec int64
	for i := range 9 {
		nsec *= 10
		if i < len(frac) {
			if frac[i] < '0' || frac[i] > '9' {
				return time.Time{}, false
			}
			nsec += int64(frac[i] - '0')
		}
	}
	if negative {
		nsec = -nsec
	}
	return time.Unix(sec, nsec), true
}
