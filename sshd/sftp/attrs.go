//go:build linux

package sftp

import (
	"encoding/binary"
	"time"

	"github.com/guestd/guestd/fsops"
)

// Flags of attributes, draft §5.
const (
	attrSize     = 0x00000001
	attrOwner    = 0x00000002
	attrPerm     = 0x00000004
	attrTimes    = 0x00000008
	attrExtended = 0x80000000
)

// permMask are the bits of a mode that chmod(2) sets.
const permMask = 0o7777

// attrs are attributes as a client sends them; the flags say which are there.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	perm         uint32
	atime, mtime uint32 // seconds since 1970
}

func (f *fields) attrs() (a attrs) {
	a.flags = f.uint32()
	if a.flags&attrSize != 0 {
		a.size = f.uint64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = f.uint32(), f.uint32()
	}
	if a.flags&attrPerm != 0 {
		a.perm = f.uint32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = f.uint32(), f.uint32()
	}
	if a.flags&attrExtended != 0 {
		for n := f.uint32(); n > 0 && !f.bad; n-- {
			f.bytes()
			f.bytes()
		}
	}
	return a
}

// mode is the mode of a new file or directory: what the client asks for, or
// otherwise, without what the umask takes away.
func (a attrs) mode(otherwise, umask uint32) uint32 {
	mode := otherwise
	if a.flags&attrPerm != 0 {
		mode = a.perm
	}
	return mode & permMask &^ umask
}

// changes calls apply for each attribute, one by one in the order that OpenSSH
// keeps, and returns the last error: one that cannot be set does not keep the
// others from it.
func (a attrs) changes(apply func(fsops.Attrs) error) error {
	var last error
	set := func(flag uint32, change fsops.Attrs) {
		if a.flags&flag == 0 {
			return
		}
		if err := apply(change); err != nil {
			last = err
		}
	}
	size, perm := int64(a.size), a.perm&permMask
	atime, mtime := time.Unix(int64(a.atime), 0), time.Unix(int64(a.mtime), 0)
	set(attrSize, fsops.Attrs{Size: &size})
	set(attrPerm, fsops.Attrs{Mode: &perm})
	set(attrTimes, fsops.Attrs{Atime: &atime, Mtime: &mtime})
	// An id of all ones keeps what there is. It is chown(2) that knows it: nil for
	// both would do nothing at all, also where there is no file.
	set(attrOwner, fsops.Attrs{UID: &a.uid, GID: &a.gid})
	return last
}

func appendAttrs(out []byte, info *fsops.FileInfo) []byte {
	out = binary.BigEndian.AppendUint32(out, attrSize|attrOwner|attrPerm|attrTimes)
	out = binary.BigEndian.AppendUint64(out, uint64(info.Size))
	out = binary.BigEndian.AppendUint32(out, info.UID)
	out = binary.BigEndian.AppendUint32(out, info.GID)
	out = binary.BigEndian.AppendUint32(out, info.Mode)
	out = binary.BigEndian.AppendUint32(out, uint32(info.Atime.Unix()))
	return binary.BigEndian.AppendUint32(out, uint32(info.Mtime.Unix()))
}
