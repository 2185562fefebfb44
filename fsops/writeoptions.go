//go:build linux

package fsops

import "time"

// WriteMode is how a [Writer] treats a file that is there already.
type WriteMode int

const (
	// WriteAtomic is the default. It writes to a temporary file in the same
	// directory, which takes the target's place with [Writer.Commit]. Until
	// then, and after any failure, the target is as it was. Whoever has the
	// old file open, or a hard link to it, keeps it; extended attributes and
	// ACLs of the old file are not kept.
	WriteAtomic WriteMode = iota

	// WriteExclusive is WriteAtomic for a target that must not exist: else
	// EEXIST, at the beginning or at Commit.
	WriteExclusive

	// WriteTruncate empties the file, or makes it, and writes in place.
	WriteTruncate

	// WriteAppend writes at the end of the file, or makes it.
	WriteAppend

	// WriteInPlace overwrites from WriteOptions.Offset on and leaves the rest,
	// or makes the file.
	WriteInPlace
)

// replaces reports whether the mode works with a temporary file.
func (m WriteMode) replaces() bool { return m == WriteAtomic || m == WriteExclusive }

// WriteOptions are the options of [FS.NewWriter]. The zero value replaces the
// file atomically.
type WriteOptions struct {
	Mode WriteMode

	// Perm is the mode that Commit sets, exactly. Nil keeps that of the file
	// which is replaced, but for setuid, setgid and sticky; a new one has 0644.
	Perm *uint32

	// UID and GID are the owner that Commit sets. Nil keeps that of the file
	// which is replaced, where the user may do that; a new one is the user's.
	UID, GID *uint32

	// Mtime is the time of modification that Commit sets; nil is now.
	Mtime *time.Time

	// Offset is where WriteInPlace begins.
	Offset int64

	// Size is how many bytes will be in the file (or, in the modes that do not
	// replace it, how many will be written), if greater than 0. Space is
	// reserved at once, so that ENOSPC comes before the data, and Commit
	// refuses any other size with a *[SizeError].
	Size int64

	// Holes says that [Writer.WriteHole] will be called: then no space is
	// reserved by Size.
	Holes bool

	// Checksum is the sum to compute over the file (or what is written), and
	// Sum what it must be, if not nil. It can be given to Commit as well.
	Checksum Algorithm
	Sum      []byte

	// Sync makes Commit wait until the file and its name are on the disk.
	Sync bool

	// ResumeID, with WriteAtomic and WriteExclusive, keeps what has arrived
	// when the Writer is aborted: the next one for the same target and id goes
	// on behind it, see [Writer.Offset]. Choose another id for other content,
	// and give a checksum. The partial file stays for [Config.PartialMaxAge].
	ResumeID string

	// ResumeAt, with ResumeID, is where to go on, for a caller that has asked
	// with [FS.StatPartial]: what has arrived beyond is cut off, and where less
	// has arrived NewWriter fails with [ErrResume]. Nil goes on behind all.
	ResumeAt *int64

	// MakeParents makes missing directories, with mode 0755.
	MakeParents bool

	// NoFollow replaces a symbolic link itself; otherwise what it points to is
	// written, as editors and scp do. WriteExclusive never follows.
	NoFollow bool

	// AllowSpecial writes into a FIFO or device, whatever the mode says. A FIFO
	// without a reader gives ENXIO.
	AllowSpecial bool
}
