package client

import (
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// FileInfo describes a file in the guest. It is an [fs.FileInfo] and an
// [fs.DirEntry].
type FileInfo struct {
	name string
	kind guestdv1.FileType

	// sent is what the agent sent. It is nil for an entry that has only a name
	// and a type, of which a listing may have a million: Sys makes it on demand,
	// and a nil message answers for all the other fields.
	sent atomic.Pointer[guestdv1.FileInfo]
}

var (
	_ fs.FileInfo = (*FileInfo)(nil)
	_ fs.DirEntry = (*FileInfo)(nil)
)

// Name is the last element of the path.
func (i *FileInfo) Name() string { return i.name }

// Path is the absolute path; from Walk, the path relative to the walked
// directory; empty from ReadDir.
func (i *FileInfo) Path() string {
	return fromWire(i.sent.Load().GetPath(), i.sent.Load().GetRawPath())
}

// Size is the size in bytes.
func (i *FileInfo) Size() int64 { return int64(i.sent.Load().GetSize()) }

// Allocated is how many bytes it takes on its device.
func (i *FileInfo) Allocated() int64 { return int64(i.sent.Load().GetAllocatedBytes()) }

// Mode is the type and the permission bits.
func (i *FileInfo) Mode() fs.FileMode { return modeFromWire(i.kind, i.sent.Load().GetMode()) }

// Type is the type bits of Mode.
func (i *FileInfo) Type() fs.FileMode { return modeFromWire(i.kind, 0).Type() }

// IsDir reports whether it is a directory.
func (i *FileInfo) IsDir() bool {
	return i.kind == guestdv1.FileType_FILE_TYPE_DIRECTORY
}

// ModTime is when the content last changed, to the nanosecond.
func (i *FileInfo) ModTime() time.Time { return timeFromWire(i.sent.Load().GetModifyTime()) }

// AccessTime is when it was last read, as far as the mount records that.
func (i *FileInfo) AccessTime() time.Time { return timeFromWire(i.sent.Load().GetAccessTime()) }

// ChangeTime is when the inode last changed.
func (i *FileInfo) ChangeTime() time.Time { return timeFromWire(i.sent.Load().GetChangeTime()) }

// BirthTime is when it was made; the zero time where the filesystem does not
// keep it.
func (i *FileInfo) BirthTime() time.Time { return timeFromWire(i.sent.Load().GetBirthTime()) }

// UID is the owner's number.
func (i *FileInfo) UID() uint32 { return i.sent.Load().GetUid() }

// GID is the group's number.
func (i *FileInfo) GID() uint32 { return i.sent.Load().GetGid() }

// Owner is the owner's name in the guest; empty without one.
func (i *FileInfo) Owner() string { return i.sent.Load().GetOwner() }

// Group is the group's name in the guest; empty without one.
func (i *FileInfo) Group() string { return i.sent.Load().GetGroup() }

// Inode is the inode's number.
func (i *FileInfo) Inode() uint64 { return i.sent.Load().GetInode() }

// Links is the number of the file's names (hard links).
func (i *FileInfo) Links() uint32 { return i.sent.Load().GetLinks() }

// Target is what a symbolic link holds; empty for anything else.
func (i *FileInfo) Target() string {
	return fromWire(i.sent.Load().GetSymlinkTarget(), i.sent.Load().GetRawSymlinkTarget())
}

// Sys is the *guestdv1.FileInfo as the agent sent it; it must not be changed.
func (i *FileInfo) Sys() any {
	if i.sent.Load() == nil {
		i.sent.CompareAndSwap(nil, &guestdv1.FileInfo{Name: i.name, Type: i.kind})
	}
	return i.sent.Load()
}

// Info returns i.
func (i *FileInfo) Info() (fs.FileInfo, error) { return i, nil }

// String formats i as fs.FormatFileInfo does.
func (i *FileInfo) String() string { return fs.FormatFileInfo(i) }

func infoFromWire(pb *guestdv1.FileInfo) *FileInfo {
	info := &FileInfo{name: fromWire(pb.GetName(), pb.GetRawName()), kind: pb.GetType()}
	info.sent.Store(pb)
	return info
}

func isElement(name string) bool {
	return name != "" && name != "." && name != ".." && strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// isBelow reports whether path, relative, stays below where it begins. It is
// fs.ValidPath for names that need not be UTF-8.
func isBelow(path string) bool {
	for element := range strings.SplitSeq(path, "/") {
		if !isElement(element) {
			return path == "."
		}
	}
	return true
}

// Bits of a mode in Linux that Go has elsewhere.
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
)

func modeFromWire(t guestdv1.FileType, bits uint32) fs.FileMode {
	mode := fs.FileMode(bits) & fs.ModePerm
	if bits&modeSetuid != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&modeSetgid != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&modeSticky != 0 {
		mode |= fs.ModeSticky
	}
	switch t {
	case guestdv1.FileType_FILE_TYPE_REGULAR:
		return mode
	case guestdv1.FileType_FILE_TYPE_DIRECTORY:
		return mode | fs.ModeDir
	case guestdv1.FileType_FILE_TYPE_SYMLINK:
		return mode | fs.ModeSymlink
	case guestdv1.FileType_FILE_TYPE_FIFO:
		return mode | fs.ModeNamedPipe
	case guestdv1.FileType_FILE_TYPE_SOCKET:
		return mode | fs.ModeSocket
	case guestdv1.FileType_FILE_TYPE_CHAR_DEVICE:
		return mode | fs.ModeDevice | fs.ModeCharDevice
	case guestdv1.FileType_FILE_TYPE_BLOCK_DEVICE:
		return mode | fs.ModeDevice
	default:
		return mode | fs.ModeIrregular
	}
}

// modeToWire is the permission bits of a mode as Linux has them.
func modeToWire(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		bits |= modeSetuid
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= modeSetgid
	}
	if mode&fs.ModeSticky != 0 {
		bits |= modeSticky
	}
	return bits
}
