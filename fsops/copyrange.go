//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// CopyTo copies size bytes at offset from of the open file to the offset to of
// dst, all up to the end with a negative size, and returns how many it copied:
// fewer come with an error, io.EOF where the file ends before. It has the rights
// of dst's user. The kernel copies, or shares blocks, where it can; a file that
// has no positions, or was opened with O_APPEND, is copied by reading and
// writing.
func (h *Handle) CopyTo(ctx context.Context, dst *Handle, from, to, size int64) (copied int64, err error) {
	for size < 0 || copied < size {
		step := int64(copyStep)
		if size >= 0 {
			step = min(step, size-copied)
		}
		n, err := h.copyStep(ctx, dst, from+copied, to+copied, step)
		if copied += n; err != nil {
			return copied, err
		}
		if n == 0 {
			// The end, or a file that says it is empty and is not (/proc).
			n, err := h.copyByHand(ctx, dst, from+copied, to+copied, size-copied, size < 0)
			return copied + n, err
		}
	}
	return copied, nil
}

// copyStep lets the kernel copy; 0 without an error says that it does not.
func (h *Handle) copyStep(ctx context.Context, dst *Handle, from, to, size int64) (copied int64, err error) {
	err = dst.control(ctx, "copy", func(out int) error {
		return h.w.control(func(in int) error {
			return retry(func() error {
				n, err := unix.CopyFileRange(in, &from, out, &to, int(size), 0)
				copied = int64(max(n, 0))
				return err
			})
		})
	})
	if isAny(err, unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO) || ctx.Err() != nil {
		return copied, err
	}
	// Many errnos mean "not like this"; if not, the write says it again.
	return copied, nil
}

// copyByHand copies by reading and writing, up to the end with all.
func (h *Handle) copyByHand(ctx context.Context, dst *Handle, from, to, size int64, all bool) (copied int64, err error) {
	buf := make([]byte, copyBuffer)
	for all || copied < size {
		part := buf
		if !all {
			part = buf[:min(size-copied, copyBuffer)]
		}
		n, err := h.ReadAt(ctx, part, from+copied)
		written, writeErr := dst.WriteAt(ctx, part[:n], to+copied)
		copied += int64(written)
		switch {
		case writeErr != nil:
			return copied, writeErr
		case errors.Is(err, io.EOF) && all:
			return copied, nil
		case err != nil && (all || copied < size):
			return copied, err
		}
	}
	return copied, nil
}
