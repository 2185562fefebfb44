//go:build linux

package fsops

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/sparse"
)

const (
	// copyStep bounds one system call of a copy: between two of them ended is
	// asked whether the caller has given up.
	copyStep = 64 << 20
	// copyBuffer is the size of the buffer where the kernel cannot copy by
	// itself.
	copyBuffer = 256 << 10
)

// copyData makes the empty file dst a copy of src, whose info is given, and
// returns how many bytes that are. It shares the blocks where the file system
// can, else lets the kernel copy what is not a hole.
func copyData(ended func() error, dst, src int, info *FileInfo) (int64, error) {
	if info.Size == 0 {
		// Files of /proc say so and are not empty.
		return copyByHand(ended, dst, src, 0, -1)
	}
	if unix.IoctlFileClone(dst, src) == nil {
		return info.Size, nil
	}
	if info.Blocks*512 >= info.Size {
		if err := copyRange(ended, dst, src, 0, info.Size); err != nil {
			return 0, err
		}
		return info.Size, nil
	}
	for offset := int64(0); offset < info.Size; {
		data, hole := sparse.NextData(src, offset, info.Size)
		if data == hole {
			break
		}
		if err := copyRange(ended, dst, src, data, hole); err != nil {
			return 0, err
		}
		offset = hole
	}
	// A hole at the end leaves no trace of its own.
	return info.Size, retry(func() error { return unix.Ftruncate(dst, info.Size) })
}

// copyRange copies the bytes from begin to end; a source that has become shorter
// ends it early.
func copyRange(ended func() error, dst, src int, begin, end int64) error {
	in, out := begin, begin
	for in < end {
		if err := ended(); err != nil {
			return err
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.CopyFileRange(src, &in, dst, &out, int(min(end-in, copyStep)), 0)
			return err
		})
		if isAny(err, unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO) {
			return err
		}
		if err != nil || n == 0 {
			// Other file systems, old kernels: many errnos mean "not like
			// this", and some say that the end is here.
			_, err := copyByHand(ended, dst, src, in, end-in)
			return err
		}
	}
	return nil
}

// copyByHand copies up to size bytes from offset on, all with a negative size.
func copyByHand(ended func() error, dst, src int, offset, size int64) (int64, error) {
	if _, err := unix.Seek(src, offset, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := unix.Seek(dst, offset, io.SeekStart); err != nil {
		return 0, err
	}
	buf := make([]byte, copyBuffer)
	copied := int64(0)
	for size < 0 || copied < size {
		if err := ended(); err != nil {
			return copied, err
		}
		want := buf
		if size >= 0 {
			want = buf[:min(int64(len(buf)), size-copied)]
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.Read(src, want)
			return err
		})
		if err != nil || n == 0 {
			return copied, err
		}
		if err := writeFull(dst, want[:n]); err != nil {
			return copied, err
		}
		copied += int64(n)
	}
	return copied, nil
}

func writeFull(fd int, p []byte) error {
	for len(p) > 0 {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(fd, p)
			return err
		})
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
