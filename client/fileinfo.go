package client

import (
	"io/fs"
	"strings"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// FileInfo describes a file in the guest. It is an [fs.FileInfo] and an
// [fs.DirEntry].
type FileInfo struct {
	pb   *guestdv1.FileInfo
	name string
}

var (
	_ fs.FileInfo = (*FileInfo)(nil)
	_ fs.DirEntry = (*FileInfo)(nil)
)

// Name is the last element of the path.
func (i *FileInfo) Name() string { return i.name }

// Path is the absolute path; from Walk, the path relative to the walked
// directory; empty from ReadDir.
func (i *FileInfo) Path() string { return fromWire(i.pb.GetPath(), i.pb.GetRawPath()) }

// Size is the size in bytes.
func (i *FileInfo) Size() int64 { return int64(i.pb.GetSize()) }

// Allocated is how many bytes it takes on its device.
func (i *FileInfo) Allocated() int64 { return int64(i.pb.GetAllocatedBytes()) }

// Mode is the type and the permission bits.
func (i *FileInfo) Mode() fs.FileMode { return modeFromWire(i.pb.GetType(), i.pb.GetMode()) }

// Type is the type bits of Mode.
func (i *FileInfo) Type() fs.FileMode { return i.Mode().Type() }

// IsDir reports whether it is a directory.
func (i *FileInfo) IsDir() bool {
	return i.pb.GetType() == guestdv1.FileType_FILE_TYPE_DIRECTORY
}

// ModTime is when the content changed last, to the nanosecond.
func (i *FileInfo) ModTime() time.Time { return timeFromWire(i.pb.GetModifyTime()) }

// AccessTime is when it was read last, as far as the mount keeps that.
func (i *FileInfo) AccessTime() time.Time { return timeFromWire(i.pb.GetAccessTime()) }

// ChangeTime is when the inode changed last.
func (i *FileInfo) ChangeTime() time.Time { return timeFromWire(i.pb.GetChangeTime()) }

// BirthTime is when it was made; the zero time where the filesystem does not
// keep it.
func (i *FileInfo) BirthTime() time.Time { return timeFromWire(i.pb.GetBirthTime()) }

// UID is the owner's number.
func (i *FileInfo) UID() uint32 { return i.pb.GetUid() }

// GID is the group's number.
func (i *FileInfo) GID() uint32 { return i.pb.GetGid() }

// Owner is the owner's name in the guest; empty without one.
func (i *FileInfo) Owner() string { return i.pb.GetOwner() }

// Group is the group's name in the guest; empty without one.
func (i *FileInfo) Group() string { return i.pb.GetGroup() }

// Inode is the inode's number.
func (i *FileInfo) Inode() uint64 { return i.pb.GetInode() }

// Links is the number of hard links.
func (i *FileInfo) Links() uint32 { return i.pb.GetLinks() }

// Target is what a symbolic link holds; empty for anything else.
func (i *FileInfo) Target() string {
	return fromWire(i.pb.GetSymlinkTarget(), i.pb.GetRawSymlinkTarget())
}

// Sys is the *guestdv1.FileInfo as the agent sent it; it must not be changed.
func (i *FileInfo) Sys() any { return i.pb }

// Info returns i.
func (i *FileInfo) Info() (fs.FileInfo, error) { return i, nil }

// String is as fs.FormatFileInfo has it.
func (i *FileInfo) String() string { return fs.FormatFileInfo(i) }

func infoFromWire(pb *guestdv1.FileInfo) *FileInfo {
	return &FileInfo{pb: pb, name: fromWire(pb.GetName(), pb.GetRawName())}
}

// entryFromWire is infoFromWire for what the guest says lies in a directory.
// Programs join such names to paths of this machine, so that one which is not a
// single element must not pass.
func entryFromWire(pb *guestdv1.FileInfo) (*FileInfo, error) {
	info := infoFromWire(pb)
	if !isElement(info.name) {
		return nil, protocolError("directory entry %q", info.name)
	}
	return info, nil
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
