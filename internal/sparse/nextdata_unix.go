//go:build linux || darwin

package sparse

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// NextData returns where the first bytes at or behind offset that are not in a
// hole begin and end, in the open file fd, of which it looks at the first size
// bytes. If there are none, both are size, or the end of a file that has become
// shorter. Where the file system cannot tell, everything is data.
//
// It moves the position of fd.
func NextData(fd int, offset, size int64) (begin, end int64) {
	begin, err := seek(fd, offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // a hole up to the end, or the end itself
		now, err := seek(fd, 0, io.SeekEnd)
		if err != nil {
			return offset, size
		}
		last := min(size, max(now, offset))
		return last, last
	}
	if err != nil || begin < offset {
		return offset, size
	}
	if begin >= size {
		return size, size
	}
	end, err = seek(fd, begin, unix.SEEK_HOLE)
	if err != nil || end <= begin {
		return begin, size
	}
	return begin, min(end, size)
}

func seek(fd int, offset int64, whence int) (int64, error) {
	for {
		position, err := unix.Seek(fd, offset, whence)
		if !errors.Is(err, unix.EINTR) { // of network and FUSE file systems
			return position, err
		}
	}
}
