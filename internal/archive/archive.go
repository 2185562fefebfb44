// Package archive moves whole file trees as one byte stream.
//
// [Pack] writes a tree, [Unpack] restores one. The stream is a POSIX.1-2001
// (pax) tar archive, so that any tar reads what Pack writes and Unpack reads
// what any tar writes. It carries modes, owners, modification times to the
// nanosecond, symbolic and hard links, sparse files (GNU.sparse 1.0) and
// extended attributes (SCHILY.xattr). Names are bytes: one that is not UTF-8
// goes unchanged into the pax "path" record without an hdrcharset record, as
// GNU tar does it and reads it back.
//
// # Safety
//
// Neither function ever follows a symbolic link below the path it was given.
// Both walk with one directory descriptor per path element, each opened with
// O_NOFOLLOW relative to its parent, and refuse ".." and absolute names. That
// holds as openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS does, but
// also on kernels and systems without it, at any depth and path length, and it
// costs one open per directory. An entry of a hostile archive that points
// outside stops Unpack with an [*UnsafeEntryError] before anything outside is
// touched.
//
// # Threads
//
// Both run entirely on the calling goroutine and start none, so a caller may
// lock its thread and give it another user's rights.
package archive

import (
	"errors"
	"fmt"
	"path"
)

var (
	// ErrHeader is wrapped by Unpack's error for a stream that is not a tar
	// archive or is damaged. A stream that ends too early gives
	// io.ErrUnexpectedEOF instead.
	ErrHeader = errors.New("invalid archive header")

	// ErrPattern is wrapped by the error for a malformed exclude pattern, before
	// anything is read or written. It is path.ErrBadPattern.
	ErrPattern = path.ErrBadPattern
)

// UnsafeEntryError reports an archive entry that would have left the
// destination. Nothing outside the destination was touched; entries before it
// have been extracted.
type UnsafeEntryError struct {
	Name   string // the entry's name as it stands in the archive
	Reason string // for people: "name contains ..", "a is a symbolic link"
}

func (e *UnsafeEntryError) Error() string {
	return fmt.Sprintf("unsafe archive entry %q: %s", e.Name, e.Reason)
}

// LimitError reports that an archive exceeds one of [Limits]. The entry that
// exceeds it has not been extracted; those before it have.
type LimitError struct {
	What string // "entries" or "bytes"
	Max  int64  // the limit
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("archive has more than %d %s", e.Max, e.What)
}

// Summary counts what a Pack or an Unpack did. It is valid, as far as the
// operation came, even with an error.
type Summary struct {
	Files     int64 // regular files, including empty and sparse ones
	Dirs      int64 // directories that had an entry
	Symlinks  int64
	Hardlinks int64 // further names of a file already counted in Files
	Specials  int64 // FIFOs and device nodes
	Bytes     int64 // file content carried; holes of sparse files not counted
	Excluded  int64 // entries left out by a pattern; packing, a directory counts once

	// Notes lists what is not in the result as it was in the source, at most
	// MaxNotes of them. NoteCount counts all.
	Notes     []Note
	NoteCount int64
}

// MaxNotes bounds Summary.Notes.
const MaxNotes = 100

// Note says that one entry was skipped or is not exactly as its source.
type Note struct {
	Name   string // the entry's name in the archive
	Reason Reason
	Err    error // the system's error where there was one, else nil
}

// Reason is why an entry has a [Note].
type Reason string

// Reasons. After the first group the entry is missing, after the second it is
// there with a difference.
const (
	ReasonSocket      Reason = "socket"       // tar has no sockets
	ReasonSpecial     Reason = "special file" // FIFO or device, and Specials is off
	ReasonVanished    Reason = "vanished"     // removed after its directory was read
	ReasonUnreadable  Reason = "unreadable"   // only with SkipUnreadable
	ReasonExists      Reason = "exists"       // only with OverwriteKeep
	ReasonStripped    Reason = "no name left" // StripComponents took the whole name
	ReasonNoTarget    Reason = "link to an excluded file"
	ReasonUnknownType Reason = "unknown entry type"     // a tar type this package does not know
	ReasonOtherFS     Reason = "on another file system" // the directory is there, its content is not

	ReasonGrew   Reason = "grew while read"         // cut at the size it had first
	ReasonShrank Reason = "shrank while read"       // filled with zeros to the size it had first
	ReasonOwner  Reason = "owner not restored"      // the rights do not suffice; set-id bits are dropped
	ReasonDir    Reason = "attributes not restored" // of a directory of somebody else's that existed
	ReasonXattr  Reason = "attribute not carried"   // an extended attribute was refused or is too large
)

// note records n within the bound.
func (s *Summary) note(name string, reason Reason, err error) {
	s.NoteCount++
	if len(s.Notes) < MaxNotes {
		s.Notes = append(s.Notes, Note{Name: name, Reason: reason, Err: err})
	}
}

// Progress is how far a Pack or an Unpack has come.
type Progress struct {
	Name    string // the entry being worked on
	Entries int64  // entries begun so far, Name included
	Bytes   int64  // file content so far
}
