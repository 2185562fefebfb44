//go:build linux

package fsops

import (
	"io/fs"
	"math"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/sparse"
)

// WriteHole is Write of n zeros, which take no space where the file system can
// do without: they become a hole, also where an old file had other bytes. It is
// EINVAL if the file could not be as large, and a *[SizeError] if it would be
// larger than WriteOptions.Size; neither changes anything.
//
// The zeros count for the checksum; with SHA-256 that takes as long as for other
// bytes. The end of NewWriter's context ends it.
func (w *Writer) WriteHole(n int64) error {
	switch size := w.opts.Size; {
	case w.done:
		return pathError("write", w.path, fs.ErrClosed)
	case w.err != nil:
		return w.err
	case n < 0 || n > math.MaxInt64-w.offset:
		return pathError("write", w.path, unix.EINVAL)
	case size > 0 && n > size-(w.offset-w.begin):
		return pathError("write", w.path, &SizeError{Want: size, Got: w.offset - w.begin + n})
	case n == 0:
		return nil
	case w.target == nil && !w.punch:
		return w.writeZeros(n)
	}
	err := w.fs.do(func() error {
		return w.w.control(func(fd int) error { return w.makeHole(fd, w.offset+n) })
	})
	if isAny(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV) { // of fallocate(2)
		return w.writeZeros(n)
	}
	if err == nil {
		w.offset += n
		if w.sum != nil {
			err = sparse.WriteZeros(w.sum, n, w.ended)
		}
	}
	if err != nil {
		w.err = &WriteError{Path: w.path, Written: w.offset, Err: err}
	}
	return w.err
}

// writeZeros is WriteHole where there can be no holes.
func (w *Writer) writeZeros(n int64) error {
	err := sparse.WriteZeros(w, n, w.ended)
	if err != nil && w.err == nil {
		w.err = &WriteError{Path: w.path, Written: w.offset, Err: err}
	}
	return w.err
}

// makeHole makes a hole from the file's position up to end, and moves it there.
func (w *Writer) makeHole(fd int, end int64) error {
	if w.target != nil {
		// The temporary file ends at the position, and is nobody else's.
		if err := retry(func() error { return unix.Ftruncate(fd, end) }); err != nil {
			return err
		}
		_, err := unix.Seek(fd, end, 0)
		return err
	}
	err := retry(func() error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, w.offset, end-w.offset)
	})
	if err != nil {
		return err
	}
	var info FileInfo
	if err := statInto(&info, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if info.Size < end {
		// Written and not truncated to, which would cut off what somebody else
		// appends meanwhile.
		if err := retry(func() error { _, err := unix.Pwrite(fd, []byte{0}, end-1); return err }); err != nil {
			return err
		}
	}
	_, err = unix.Seek(fd, end, 0)
	return err
}
