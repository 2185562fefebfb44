//go:build linux

package sftp

import "golang.org/x/sys/unix"

// A loss is the range of a file that could not be written, and why. The zero value
// is none.
//
// Closing the file reports it again. OpenSSH's clients have many writes
// on their way and keep the outcome of the last one that is answered: where a
// disk was full for a moment, scp ended with 0 and left a file with a hole.
type loss struct {
	err        error
	begin, end int64
}

// note records the outcome of writing size bytes at an offset, of which n
// were written. A client that writes all of the lost range again undoes the loss.
func (l *loss) note(flags int, offset int64, size, n int, err error) {
	switch begin, end := offset+int64(n), offset+int64(size); {
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		// It never was a file to write to.
	case err != nil && l.err == nil:
		*l = loss{err, begin, end}
	case err != nil:
		l.begin, l.end = min(l.begin, begin), max(l.end, end)
	case l.err != nil && flags&unix.O_APPEND == 0 && offset <= l.begin && end >= l.end:
		*l = loss{}
	}
}
