package archive

import (
	"encoding/binary"
	"math/bits"
	"time"
)

const (
	blockSize = 512

	// maxMeta bounds the body of one pax or GNU long-name header, and so what a
	// hostile archive makes the reader hold. It is archive/tar's bound too.
	maxMeta = 1 << 20

	// maxSize bounds an entry so that sums of sizes and padding cannot overflow.
	maxSize = 1 << 60
)

// kind is an entry's type; the values are ustar's typeflags.
type kind byte

const (
	kindFile     kind = '0'
	kindHardlink kind = '1'
	kindSymlink  kind = '2'
	kindChar     kind = '3'
	kindBlock    kind = '4'
	kindDir      kind = '5'
	kindFIFO     kind = '6'
	kindUnknown  kind = '?' // decoder only: to be skipped with a note
)

// Mode bits as the archive and stat(2) number them.
const (
	modeSetUID = 0o4000
	modeSetGID = 0o2000
	modeSticky = 0o1000
	modePerm   = 0o777
)

// header is one entry's metadata.
type header struct {
	kind         kind
	name         string // as in the archive; a directory's may end in a slash
	link         string // target of a symbolic or hard link
	mode         uint32 // permission, set-id and sticky bits
	uid, gid     int64  // wider than the system's: an archive may say anything
	uname, gname string
	mtime        time.Time // the zero Time: unknown
	size         int64     // bytes of data that follow in the archive
	major, minor uint32    // device number
	xattrs       []xattr

	// sparse describes a sparse file; realSize is then its apparent size and
	// size that of the map and the extents' data together.
	sparse   []extent
	isSparse bool
	realSize int64
}

// xattr is one extended attribute.
type xattr struct {
	name, value string
}

// extent is a range of a sparse file that holds data.
type extent struct {
	off, len int64
}

// hasData reports whether entries of this kind are followed by data. As in
// archive/tar the size field of the others is ignored.
func (k kind) hasData() bool {
	return k == kindFile || k == kindUnknown
}

// padding is the number of bytes from n to the next block boundary.
func padding(n int64) int64 {
	return -n & (blockSize - 1)
}

// checksums are the sums of a header block's bytes as unsigned and, as some old
// tars had it, as signed numbers. The checksum's own field counts as blanks.
//
// With small files there is a block or two for each kilobyte, so that byte by
// byte this took longer than some of the system calls.
func checksums(block []byte) (unsigned, signed int64) {
	const evenBytes, signBits = 0x00ff00ff00ff00ff, 0x8080808080808080
	var lanes uint64 // four sums of 16 bits, which 512 bytes cannot fill
	negative := 0
	for b := block[:blockSize]; len(b) >= 8; b = b[8:] {
		word := binary.LittleEndian.Uint64(b)
		lanes += word&evenBytes + word>>8&evenBytes
		negative += bits.OnesCount64(word & signBits)
	}
	for ; lanes != 0; lanes >>= 16 {
		unsigned += int64(lanes & 0xffff)
	}
	signed = unsigned - 256*int64(negative)
	for _, c := range block[offChecksum:offType] {
		unsigned += ' ' - int64(c)
		signed += ' ' - int64(int8(c))
	}
	return unsigned, signed
}
