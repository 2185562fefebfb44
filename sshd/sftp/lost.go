//go:build linux

package sftp

import "golang.org/x/sys/unix"

// A loss is what could not be written to a file, and why. The zero value is
// none.
//
// It is told again when the file is closed. OpenSSH's clients have many writes
// on their way and keep the outcome of the last one that is answered: where a
// disk was full for a moment, scp ended with 0 and left a file with a hole.
type loss struct {
	err        error
	begin, end int64
}

// note takes down the outcome of writing size bytes at an offset, of which n
// were written. Bytes that were lost and are written after all, by a client that
// tries again, are lost no more.
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
