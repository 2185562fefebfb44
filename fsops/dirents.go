//go:build linux

package fsops

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// direntBuffer is what one getdents64 call may fill: about 2,000 names. More
// gains nothing, and a tree walk holds only one.
const direntBuffer = 64 << 10

// direntHeader is the size of struct linux_dirent64 before the name: inode (8),
// offset (8), record length (2), type (1).
const direntHeader = 19

var direntBuffers = sync.Pool{New: func() any { return new([direntBuffer]byte) }}

// direntReader reads the entries of an open directory. The descriptor is the
// caller's.
type direntReader struct {
	fd   int
	buf  *[direntBuffer]byte
	rest []byte // of buf, not yet parsed
}

func newDirentReader(fd int) *direntReader {
	return &direntReader{fd: fd, buf: direntBuffers.Get().(*[direntBuffer]byte)}
}

// release gives the buffer back; the reader is done.
func (r *direntReader) release() {
	if r.buf != nil {
		direntBuffers.Put(r.buf)
		r.buf, r.rest = nil, nil
	}
}

// buffered says whether the next entry is there without a system call.
func (r *direntReader) buffered() bool { return len(r.rest) > 0 }

// next stores the next entry but "." and ".." in entry and reports whether
// there was one. A directory that was removed meanwhile has no more.
func (r *direntReader) next(entry *DirEntry) (bool, error) {
	for {
		if len(r.rest) == 0 {
			var n int
			err := retry(func() (err error) {
				n, err = unix.Getdents(r.fd, r.buf[:])
				return err
			})
			if errors.Is(err, unix.ENOENT) || err == nil && n <= 0 {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			r.rest = r.buf[:n]
		}
		if r.parse(entry) {
			return true, nil
		}
	}
}

// parse takes one record and reports whether it is an entry to report.
func (r *direntReader) parse(entry *DirEntry) bool {
	if len(r.rest) < direntHeader {
		r.rest = nil
		return false
	}
	size := int(binary.NativeEndian.Uint16(r.rest[16:]))
	if size < direntHeader || size > len(r.rest) {
		r.rest = nil
		return false
	}
	record := r.rest[:size]
	r.rest = r.rest[size:]
	name := record[direntHeader:]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	if len(name) == 0 || string(name) == "." || string(name) == ".." {
		return false
	}
	*entry = DirEntry{
		Name: string(name),
		// DT_DIR and so on are the type bits of st_mode, shifted.
		Type:   uint32(record[18]) << 12,
		Ino:    binary.NativeEndian.Uint64(record),
		Cookie: int64(binary.NativeEndian.Uint64(record[8:])),
	}
	return true
}
