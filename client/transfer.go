package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/guestd/guestd/internal/archive"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Transfer is what an Upload or a Download moved.
type Transfer struct {
	Files       int64 // regular files
	Directories int64
	Symlinks    int64
	HardLinks   int64 // further names of files
	Special     int64 // FIFOs and devices
	Bytes       int64 // of content; resumed parts count, holes do not

	// Skipped counts what was left out or is not exactly as it was; Skips has
	// the first of them.
	Skipped int64
	Skips   []Skip
}

// Skip is something that was left out of a transfer, or changed by it.
type Skip struct {
	Path   string // within the tree; for a single file the target
	Reason string // in a few words
}

// Owners says what happens to a tree's owners on the other side.
type Owners int

const (
	// OwnersUser gives everything to the user who writes it: the one in the
	// guest, or this program's.
	OwnersUser Owners = iota
	// OwnersNumeric keeps numbers; it needs root's rights.
	OwnersNumeric
	// OwnersNames keeps names where the other side has them, else numbers; it
	// needs root's rights.
	OwnersNames
)

func (o Owners) toWire() guestdv1.TreeOwner {
	switch o {
	case OwnersNumeric:
		return guestdv1.TreeOwner_TREE_OWNER_NUMERIC
	case OwnersNames:
		return guestdv1.TreeOwner_TREE_OWNER_NAMES
	default:
		return guestdv1.TreeOwner_TREE_OWNER_USER
	}
}

func transferFromWire(s *guestdv1.TreeSummary) Transfer {
	t := Transfer{
		Files:       int64(s.GetFiles()),
		Directories: int64(s.GetDirectories()),
		Symlinks:    int64(s.GetSymlinks()),
		HardLinks:   int64(s.GetHardLinks()),
		Special:     int64(s.GetSpecial()),
		Bytes:       int64(s.GetBytes()),
		Skipped:     int64(s.GetSkipped()),
	}
	for _, skip := range s.GetSkips() {
		t.Skips = append(t.Skips, Skip{
			Path:   fromWire(skip.GetPath(), skip.GetRawPath()),
			Reason: printable(skip.GetReason()),
		})
	}
	return t
}

func transferFromArchive(s archive.Summary) Transfer {
	t := Transfer{
		Files:       s.Files,
		Directories: s.Dirs,
		Symlinks:    s.Symlinks,
		HardLinks:   s.Hardlinks,
		Special:     s.Specials,
		Bytes:       s.Bytes,
	}
	t.addNotes(s)
	return t
}

// keptTransfer is a transfer of one file that was there already.
func keptTransfer(path string) Transfer {
	return Transfer{Skipped: 1, Skips: []Skip{{Path: path, Reason: string(archive.ReasonExists)}}}
}

// addNotes adds what this side's archiver left out.
func (t *Transfer) addNotes(s archive.Summary) {
	t.Skipped += s.NoteCount
	for _, note := range s.Notes {
		skip := Skip{Path: note.Name, Reason: string(note.Reason)}
		if note.Err != nil {
			skip.Reason += ": " + note.Err.Error()
		}
		t.Skips = append(t.Skips, skip)
	}
}

// addSkips adds what the other side's did.
func (t *Transfer) addSkips(other Transfer) {
	t.Skipped += other.Skipped
	t.Skips = append(t.Skips, other.Skips...)
}

// archiveError gives errors of this side's archiver the sentinels that the
// agent's have.
func archiveError(err error) error {
	if unsafe, ok := errors.AsType[*archive.UnsafeEntryError](err); ok {
		return fmt.Errorf("%w: %w", ErrUnsafeEntry, unsafe)
	}
	if limit, ok := errors.AsType[*archive.LimitError](err); ok {
		return fmt.Errorf("%w: %w", ErrLimit, limit)
	}
	return err
}

// resumeID derives a name from all that identifies the transfer: if any of it
// changes, nothing is resumed.
func resumeID(parts ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, parts...))
	return hex.EncodeToString(sum[:16])
}
