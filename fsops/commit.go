//go:build linux

package fsops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// Commit checks the size and the sum (sum, or WriteOptions.Sum where that is
// nil), sets owner, mode and time, and lets the file take the target's place.
// After an error the target is as it was, unless the mode writes in place, and
// the temporary file is gone; it is kept for resuming only when bytes are
// missing. Commit ends the Writer either way.
func (w *Writer) Commit(ctx context.Context, sum []byte) (*WriteResult, error) {
	if w.done {
		return nil, pathError("write", w.path, fs.ErrClosed)
	}
	result, err := w.commit(ctx, sum)
	if err != nil {
		var size *SizeError
		missing := errors.As(err, &size) && size.Got < size.Want
		_ = w.finish(missing || w.err != nil || ctx.Err() != nil)
		return nil, err
	}
	w.temp = ""
	_ = w.finish(false)
	return result, nil
}

func (w *Writer) commit(ctx context.Context, want []byte) (*WriteResult, error) {
	if w.err != nil {
		return nil, w.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	result := &WriteResult{}
	if err := w.verify(result, want); err != nil {
		return nil, pathError("write", w.path, err)
	}
	err := w.fs.do(func() error {
		return w.w.control(func(fd int) (err error) {
			if err := w.settle(fd); err != nil {
				return err
			}
			result.Info, err = statFD(fd)
			return err
		})
	})
	if err != nil {
		return nil, pathError("write", w.path, err)
	}
	_, result.Info.Name = splitLast(w.path)
	return result, nil
}

// verify checks what was written against what was announced.
func (w *Writer) verify(result *WriteResult, want []byte) error {
	if got := w.offset - w.begin; w.opts.Size > 0 && got != w.opts.Size {
		return &SizeError{Want: w.opts.Size, Got: got}
	}
	if want == nil {
		want = w.opts.Sum
	}
	if w.sum == nil {
		if want != nil {
			return fmt.Errorf("sum given, but no algorithm: %w", unix.EINVAL)
		}
		return nil
	}
	result.Sum = w.sum.Sum(nil)
	if want != nil && !bytes.Equal(want, result.Sum) {
		return &ChecksumError{Algorithm: w.opts.Checksum, Want: want, Got: result.Sum}
	}
	return nil
}

// settle gives the file its attributes and its name.
func (w *Writer) settle(fd int) error {
	attrs := Attrs{Mode: w.opts.Perm, UID: w.opts.UID, GID: w.opts.GID, Mtime: w.opts.Mtime}
	if w.target != nil {
		// Whoever changed the old file's mode while this upload ran meant it.
		if err := w.target.look(); err != nil {
			return err
		}
		if err := w.keepAttrs(fd, &attrs); err != nil {
			return err
		}
	}
	if err := setAttrsFD(fd, attrs); err != nil {
		return err
	}
	if w.opts.Sync {
		if err := retry(func() error { return unix.Fsync(fd) }); err != nil {
			return err
		}
	}
	if w.target == nil {
		return nil
	}
	if err := w.target.place(w.temp, w.opts.Mode == WriteExclusive); err != nil {
		return err
	}
	w.temp = ""
	if w.opts.Sync {
		return w.target.syncDir(fd)
	}
	return nil
}

// keepAttrs takes over what the options leave open from the file to be
// replaced.
func (w *Writer) keepAttrs(fd int, attrs *Attrs) error {
	perm := uint32(defaultFilePerm)
	if old := w.target.existing; old != nil && old.IsRegular() {
		perm = old.Perm() & 0o777
		if err := keepOwner(fd, old, attrs); err != nil {
			return err
		}
	}
	if attrs.Mode == nil {
		attrs.Mode = &perm
	}
	return nil
}

// keepOwner gives the file the owner of old where that is another one and the
// user may do so; each of the two ids by itself, as a user may give files to
// its groups but not to other users.
func keepOwner(fd int, old *FileInfo, attrs *Attrs) error {
	var now FileInfo
	if err := statInto(&now, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	keep := []Attrs{}
	if attrs.UID == nil && old.UID != now.UID {
		keep = append(keep, Attrs{UID: &old.UID})
	}
	if attrs.GID == nil && old.GID != now.GID {
		keep = append(keep, Attrs{GID: &old.GID})
	}
	for _, a := range keep {
		if err := setAttrsFD(fd, a); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

// Abort ends the Writer and leaves the target as it was, unless the mode writes
// in place. With a ResumeID the partial file is kept. After Commit it does
// nothing.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	return w.finish(true)
}

// finish closes everything; keep says that a partial file is worth keeping.
func (w *Writer) finish(keep bool) error {
	w.done = true
	w.stop()
	var err error
	if w.target != nil && w.temp != "" {
		if keep && w.opts.ResumeID != "" {
			err = w.keepPartial()
		} else {
			err = w.fs.do(func() error { return unix.Unlinkat(w.target.dirfd, w.temp, 0) })
		}
	}
	err = errors.Join(err, closeWritten(w.w.close))
	if w.target != nil {
		w.target.close()
	}
	return pathError("abort", w.path, err)
}

// keepPartial gives the reserved space back and notes the file for cleaning up.
func (w *Writer) keepPartial() error {
	err := w.fs.do(func() error {
		return w.w.control(func(fd int) error { return unix.Ftruncate(fd, w.offset) })
	})
	// By way of symbolic links, the directory need not be that of the path.
	if dir, linkErr := readlinkAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(w.target.dirfd)); linkErr == nil {
		w.fs.sys.partials.add(w.fs, joinPath(dir, w.temp))
	}
	return err
}
