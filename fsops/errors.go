//go:build linux

package fsops

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

var (
	// ErrSpecial says that the path names a FIFO, a device or a socket, and the
	// caller did not allow that. Opening one could block for ever, or have
	// effects on a device.
	ErrSpecial = errors.New("not a regular file or directory")

	// ErrBadPattern says that a glob or exclude pattern is malformed. It is
	// path.ErrBadPattern.
	ErrBadPattern = doublestar.ErrBadPattern

	// ErrTooMany says that a sorted listing is larger than [Config.MaxSorted].
	ErrTooMany = errors.New("too many entries to sort")

	// ErrChecksum says that what was written is not what the sender summed up. The
	// error is a *[ChecksumError].
	ErrChecksum = errors.New("checksum mismatch")

	// ErrSize says that more or less was written than was announced. The error is a
	// *[SizeError].
	ErrSize = errors.New("size mismatch")

	// ErrBusy says that another writer has the same resume id open.
	ErrBusy = errors.New("partial file in use by another writer")

	// ErrResume says that a partial file is shorter than [WriteOptions].ResumeAt.
	ErrResume = errors.New("partial file is shorter than the place to resume at")

	// ErrWatchLimit says that the kernel's limit on inotify instances or watches is
	// reached (/proc/sys/fs/inotify). The text says which.
	ErrWatchLimit = errors.New("inotify limit reached")

	// ErrTruncated is returned by [Reader.Read] while following a file that was
	// cut to less than what had been read. It is not the end: the next Read
	// goes on at the beginning.
	ErrTruncated = errors.New("file truncated")

	// ErrReplaced is ErrTruncated for a name that means another file now; the
	// next Read goes on at the beginning of that.
	ErrReplaced = errors.New("file replaced")
)

// IdentityError says that the process cannot take on a user's rights.
type IdentityError struct {
	Identity passwd.Identity
	Err      error // the reason, an errno
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("act as user %s (%d:%d): %v", e.Identity.Name, e.Identity.UID, e.Identity.GID, e.Err)
}

// Unwrap returns the reason.
func (e *IdentityError) Unwrap() error { return e.Err }

// Is reports whether target is [fs.ErrPermission].
func (e *IdentityError) Is(target error) bool { return target == fs.ErrPermission }

// ChecksumError is an [ErrChecksum] with both sums.
type ChecksumError struct {
	Algorithm Algorithm
	Want, Got []byte
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%v mismatch: want %s, got %s", e.Algorithm, hex.EncodeToString(e.Want), hex.EncodeToString(e.Got))
}

// Is reports whether target is [ErrChecksum].
func (e *ChecksumError) Is(target error) bool { return target == ErrChecksum }

// SizeError is an [ErrSize] with both sizes in bytes.
type SizeError struct{ Want, Got int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("size mismatch: want %d bytes, got %d", e.Want, e.Got)
}

// Is reports whether target is [ErrSize].
func (e *SizeError) Is(target error) bool { return target == ErrSize }

// WriteError is a failed write of a [Writer], such as ENOSPC.
type WriteError struct {
	Path    string // as the caller wrote it
	Written int64  // bytes of the file that are stored, counted from its beginning
	Err     error
}

func (e *WriteError) Error() string {
	return fmt.Sprintf("write %s: %v (%d bytes written)", e.Path, e.Err, e.Written)
}

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// pathError wraps err with what was done to which path; an error that already
// says so, and nil, stay as they are.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	var we *WriteError
	var ie *IdentityError
	if errors.As(err, &pe) || errors.As(err, &we) || errors.As(err, &ie) {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// linkError is [pathError] for an operation with two paths.
func linkError(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	var ie *IdentityError
	if errors.As(err, &pe) || errors.As(err, &ie) {
		return err
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

// retry calls fn until it is not interrupted. Go installs its handlers with
// SA_RESTART, but some file systems return EINTR nevertheless.
func retry(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAny reports whether err is one of errnos.
func isAny(err error, errnos ...unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(errnos, errno)
}
