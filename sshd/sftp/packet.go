//go:build linux

package sftp

import (
	"bytes"
	"encoding/binary"
)

// Packet types, draft-ietf-secsh-filexfer-02 §3.
const (
	typeInit          = 1
	typeVersion       = 2
	typeOpen          = 3
	typeClose         = 4
	typeRead          = 5
	typeWrite         = 6
	typeLstat         = 7
	typeFstat         = 8
	typeSetstat       = 9
	typeFsetstat      = 10
	typeOpendir       = 11
	typeReaddir       = 12
	typeRemove        = 13
	typeMkdir         = 14
	typeRmdir         = 15
	typeRealpath      = 16
	typeStat          = 17
	typeRename        = 18
	typeReadlink      = 19
	typeSymlink       = 20
	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtended      = 200
	typeExtendedReply = 201
)

// protocolVersion is the one that OpenSSH, and therefore everybody, speaks.
const protocolVersion = 3

// The sizes of OpenSSH's server, which limits@openssh.com tells the client.
const (
	maxPacket   = 256 << 10        // bytes behind the length field
	maxTransfer = maxPacket - 1024 // bytes of data in one READ or WRITE
)

// fields takes a packet apart. After the first field that is not there, all are
// zero and bad is set: a handler reads what it needs and looks once.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.rest, f.bad = nil, true
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) uint32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes returns a string's bytes, which stay part of the packet.
func (f *fields) bytes() []byte {
	// On 32 bits a length of 2³¹ and more is not an int.
	n := f.uint32()
	if uint64(n) > uint64(len(f.rest)) {
		f.rest, f.bad = nil, true
		return nil
	}
	return f.take(int(n))
}

// text returns a string that is to be a path or a name, in which a NUL byte is
// malformed.
func (f *fields) text() string {
	b := f.bytes()
	if bytes.IndexByte(b, 0) >= 0 {
		f.bad = true
	}
	return string(b)
}

// handle returns the handle that the client names, zero for one that cannot be
// ours.
func (f *fields) handle() uint32 {
	b := f.bytes()
	if len(b) != handleSize {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// lengthSize is the size of the length before each packet.
const lengthSize = 4

// begin appends the start of a packet and returns where it started, for end.
func begin(out []byte, kind byte, id uint32) ([]byte, int) {
	start := len(out)
	out = append(out, 0, 0, 0, 0, kind)
	return binary.BigEndian.AppendUint32(out, id), start
}

// end writes the length of the packet that began at start.
func end(out []byte, start int) []byte {
	binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-lengthSize))
	return out
}

func appendString[T string | []byte](out []byte, s T) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
	return append(out, s...)
}
