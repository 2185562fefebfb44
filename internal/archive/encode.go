package archive

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// ustar field offsets, POSIX.1-2001 "ustar Interchange Format".
const (
	offName     = 0
	offMode     = 100
	offUID      = 108
	offGID      = 116
	offSize     = 124
	offMtime    = 136
	offChecksum = 148
	offType     = 156
	offLink     = 157
	offMagic    = 257
	offUname    = 265
	offGname    = 297
	offMajor    = 329
	offMinor    = 337
	offPrefix   = 345
)

const (
	lenName  = 100
	lenID    = 8
	lenSize  = 12
	lenOwner = 32
)

// encoder writes headers. Package archive/tar is not used for it because its
// Writer cannot write sparse files, and because it allocates some thirty
// objects per entry where this one, which reuses its buffers, has none: with
// small files the header is most of the work that is not system calls.
type encoder struct {
	pax []byte // records of the entry at hand
	num []byte // a number being formatted
}

// append appends h to b: a pax header where ustar's fields do not suffice, then
// the ustar header. The result is a multiple of 512 bytes long.
func (e *encoder) append(b []byte, h *header) ([]byte, error) {
	e.pax = e.pax[:0]
	name := h.name
	if h.isSparse {
		e.recordInt("GNU.sparse.major", 1)
		e.recordInt("GNU.sparse.minor", 0)
		e.record("GNU.sparse.name", name)
		e.recordInt("GNU.sparse.realsize", h.realSize)
		name = path.Join(path.Dir(name), "GNUSparseFile.0", path.Base(name))
	} else {
		e.recordString("path", name, lenName)
	}
	e.recordString("linkpath", h.link, lenName)
	e.recordString("uname", h.uname, lenOwner-1)
	e.recordString("gname", h.gname, lenOwner-1)
	e.recordBig("uid", h.uid, lenID)
	e.recordBig("gid", h.gid, lenID)
	e.recordBig("size", h.size, lenSize)
	e.recordTime(h.mtime)
	for _, x := range h.xattrs {
		e.record("SCHILY.xattr."+escapeXattr(x.name), x.value)
	}
	if len(e.pax) > maxMeta {
		return b, fmt.Errorf("%q: %d bytes of metadata: %w", h.name, len(e.pax), ErrHeader)
	}
	if len(e.pax) > 0 {
		x := header{kind: 'x', mode: 0o644, size: int64(len(e.pax))}
		b = appendUstar(b, &x, "PaxHeaders/"+path.Base(h.name))
		b = append(b, e.pax...)
		b = append(b, zeroBlock[:padding(int64(len(e.pax)))]...)
	}
	return appendUstar(b, h, name), nil
}

// zeroBlock is never written to.
var zeroBlock [blockSize]byte

// recordString adds a record if s does not go into a field of max bytes or has
// bytes whose meaning ustar does not define.
func (e *encoder) recordString(key, s string, maxLen int) {
	if len(s) <= maxLen && isASCII(s) {
		return
	}
	e.record(key, s)
}

// recordBig adds a record if n does not go into an octal field of width bytes.
func (e *encoder) recordBig(key string, n int64, width int) {
	if n < 0 || n>>(3*uint(width-1)) != 0 {
		e.recordInt(key, n)
	}
}

func (e *encoder) recordInt(key string, n int64) {
	e.num = strconv.AppendInt(e.num[:0], n, 10)
	e.record(key, string(e.num))
}

// recordTime adds the time where the octal field of whole seconds does not say
// all of it: a fraction, or a time before 1970 or after 2242.
func (e *encoder) recordTime(t time.Time) {
	if t.IsZero() {
		return
	}
	sec, nsec := t.Unix(), t.Nanosecond()
	if nsec == 0 && sec >= 0 && sec>>33 == 0 {
		return
	}
	e.num = appendTime(e.num[:0], sec, nsec)
	e.record("mtime", string(e.num))
}

// appendTime formats a time as a decimal fraction (POSIX "pax Extended
// Header"). A negative one counts down: 0.25 s before 1970 is "-0.25".
func appendTime(b []byte, sec int64, nsec int) []byte {
	if sec < 0 {
		b = append(b, '-')
		if nsec > 0 {
			sec, nsec = sec+1, 1e9-nsec
		}
		b = strconv.AppendUint(b, uint64(-sec), 10)
	} else {
		b = strconv.AppendUint(b, uint64(sec), 10)
	}
	if nsec == 0 {
		return b
	}
	b = append(b, '.')
	for digit := int(1e8); digit > 0 && nsec > 0; digit /= 10 {
		b = append(b, byte('0'+nsec/digit))
		nsec %= digit
	}
	return b
}

// record adds "LENGTH KEY=VALUE\n", where LENGTH counts the whole record, its
// own digits included.
func (e *encoder) record(key, value string) {
	rest := len(key) + len(value) + 3 // the blank, the equals sign and the newline
	n := rest + decimalLen(rest)
	if decimalLen(n) != decimalLen(rest) {
		n = rest + decimalLen(n)
	}
	e.pax = strconv.AppendInt(e.pax, int64(n), 10)
	e.pax = append(e.pax, ' ')
	e.pax = append(e.pax, key...)
	e.pax = append(e.pax, '=')
	e.pax = append(e.pax, value...)
	e.pax = append(e.pax, '\n')
}

func decimalLen(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// appendUstar appends the 512-byte header block. What does not go into a field
// is cut: a pax record has it whole.
func appendUstar(b []byte, h *header, name string) []byte {
	start := len(b)
	b = append(b, zeroBlock[:]...)
	f := b[start:]
	copy(f[offName:offName+lenName], name)
	putOctal(f[offMode:offUID], int64(h.mode))
	putOctal(f[offUID:offGID], h.uid)
	putOctal(f[offGID:offSize], h.gid)
	putOctal(f[offSize:offMtime], h.size)
	if !h.mtime.IsZero() {
		putOctal(f[offMtime:offChecksum], max(h.mtime.Unix(), 0))
	} else {
		putOctal(f[offMtime:offChecksum], 0)
	}
	f[offType] = byte(h.kind)
	copy(f[offLink:offLink+lenName], h.link)
	copy(f[offMagic:], "ustar\x0000")
	copy(f[offUname:offUname+lenOwner-1], h.uname)
	copy(f[offGname:offGname+lenOwner-1], h.gname)
	putOctal(f[offMajor:offMinor], int64(h.major))
	putOctal(f[offMinor:offPrefix], int64(h.minor))
	sum, _ := checksums(f)
	putOctal(f[offChecksum:offChecksum+7], sum)
	f[offChecksum+7] = ' '
	return b
}

// putOctal fills f with n's low digits and a NUL.
func putOctal(f []byte, n int64) {
	for i := len(f) - 2; i >= 0; i-- {
		f[i] = byte('0' + n&7)
		n >>= 3
	}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// escapeXattr escapes the equals signs of an attribute's name, as GNU tar does:
// a pax key ends at the first one.
func escapeXattr(name string) string {
	if !strings.ContainsAny(name, "%=") {
		return name
	}
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

func unescapeXattr(name string) string {
	if !strings.Contains(name, "%") {
		return name
	}
	return strings.NewReplacer("%25", "%", "%3D", "=").Replace(name)
}
