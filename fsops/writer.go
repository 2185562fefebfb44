//go:build linux

package fsops

import (
	"context"
	"errors"
	"hash"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Writer writes one file. It is for one goroutine and must be ended by
// [Writer.Commit] or [Writer.Abort]; to defer Abort is always right.
type Writer struct {
	fs   *FS
	path string // as the caller wrote it
	opts WriteOptions

	w      *waitable
	ended  func() error // says whether NewWriter's caller has given up; for a FIFO
	stop   func() bool
	target *target // nil where nothing is replaced
	temp   string  // name of the temporary file in the target's directory
	punch  bool    // holes can be made in a file that is not a temporary one
	sum    hash.Hash
	begin  int64 // offset of the first byte written
	offset int64
	iov    [][]byte // reused by WriteBuffers
	err    error    // of a write; sticky
	done   bool
}

// WriteResult describes a file that was committed.
type WriteResult struct {
	Info *FileInfo // as it is now
	Sum  []byte    // with WriteOptions.Checksum
}

// NewWriter begins to write a file. The context bounds the beginning, and with
// AllowSpecial ends a Write that waits for a FIFO's reader.
func (f *FS) NewWriter(ctx context.Context, path string, opts WriteOptions) (*Writer, error) {
	f.sys.sweepPartials()
	w := &Writer{fs: f, path: path, opts: opts, sum: opts.Checksum.New(), ended: ctx.Err, stop: func() bool { return true }}
	if err := w.checkOptions(); err != nil {
		return nil, pathError("write", path, err)
	}
	err := f.withPath(ctx, "write", path, func(abs string) error { return w.open(ctx, abs) })
	if err != nil {
		return nil, err
	}
	if w.w.pollable {
		w.stop = context.AfterFunc(ctx, func() { _ = w.w.file.SetWriteDeadline(longAgo) })
	}
	return w, nil
}

func (w *Writer) checkOptions() error {
	o := &w.opts
	switch {
	case o.Mode < WriteAtomic || o.Mode > WriteInPlace,
		o.Offset < 0 || o.Offset != 0 && o.Mode != WriteInPlace,
		o.ResumeID != "" && !o.Mode.replaces(),
		o.ResumeAt != nil && (o.ResumeID == "" || *o.ResumeAt < 0),
		o.Checksum != NoChecksum && w.sum == nil,
		o.Sum != nil && (w.sum == nil || len(o.Sum) != w.sum.Size()):
		return unix.EINVAL
	}
	return nil
}

// open opens the file or the temporary one. The thread has the user's rights.
func (w *Writer) open(ctx context.Context, abs string) error {
	if w.opts.MakeParents {
		if dir, _ := splitLast(abs); dir != "" && dir != "/" {
			if err := mkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
	}
	if w.opts.Mode.replaces() {
		err := w.openReplacing(ctx, abs)
		if !errors.Is(err, errDirect) {
			return err
		}
	}
	return w.openDirect(abs)
}

// errDirect says that a target cannot be replaced, only written into.
var errDirect = errors.New("write into special file")

func (w *Writer) openReplacing(ctx context.Context, abs string) (err error) {
	exclusive := w.opts.Mode == WriteExclusive
	t, err := w.fs.openTarget(abs, w.opts.NoFollow || exclusive)
	if err != nil {
		return err
	}
	fd := -1
	defer func() {
		if err != nil {
			if fd >= 0 {
				closeFD(fd)
			}
			t.close()
		}
	}()
	if e := t.existing; e != nil {
		switch {
		case exclusive:
			return unix.EEXIST
		case e.IsDir():
			return unix.EISDIR
		case e.IsSpecial() && w.opts.AllowSpecial:
			return errDirect
		case e.IsSpecial():
			return ErrSpecial
		}
	}
	fd, w.temp, w.offset, err = w.fs.openPartial(t, w.opts.ResumeID)
	if err != nil {
		return err
	}
	found := w.offset
	if err = w.beginPartial(ctx, fd); err != nil {
		if w.opts.ResumeID == "" || found == 0 {
			_ = unix.Unlinkat(t.dirfd, w.temp, 0)
		}
		return err
	}
	info, err := statFD(fd)
	if err != nil {
		return err
	}
	w.target, w.w = t, newWaitable(fd, w.path, info)
	return nil
}

// beginPartial sums what is there already and reserves the rest.
func (w *Writer) beginPartial(ctx context.Context, fd int) error {
	if at := w.opts.ResumeAt; at != nil {
		if *at > w.offset {
			return ErrResume
		}
		if err := unix.Ftruncate(fd, *at); err != nil {
			return err
		}
		w.offset = *at
	}
	if w.opts.Size > 0 && w.offset > w.opts.Size {
		// It was another file; begin again.
		if err := unix.Ftruncate(fd, 0); err != nil {
			return err
		}
		w.offset = 0
	}
	if w.offset > 0 {
		if err := sumPartial(ctx, fd, w.offset, w.sum); err != nil {
			return err
		}
	}
	return w.reserve(fd, w.offset)
}

// reserve lets a file that cannot fit fail before it is sent.
func (w *Writer) reserve(fd int, from int64) error {
	if w.opts.Holes || w.opts.Size <= 0 || w.opts.Size <= from-w.begin {
		return nil
	}
	if err := reserveSpace(fd, from, w.opts.Size-(from-w.begin)); err != nil {
		return &WriteError{Path: w.path, Written: from, Err: err}
	}
	return nil
}

func (w *Writer) openDirect(abs string) error {
	flags := unix.O_WRONLY | unix.O_CREAT
	switch w.opts.Mode {
	case WriteTruncate:
		flags |= unix.O_TRUNC
	case WriteAppend:
		flags |= unix.O_APPEND
	}
	if w.opts.NoFollow {
		flags |= unix.O_NOFOLLOW
	}
	perm := uint32(defaultFilePerm)
	if w.opts.Perm != nil {
		perm = *w.opts.Perm
	}
	fd, info, err := w.fs.openFile(abs, flags, perm, w.opts.AllowSpecial)
	if err != nil {
		return err
	}
	if info.IsRegular() {
		w.begin = w.opts.Offset
		w.punch = w.opts.Mode != WriteAppend // others may append as well: only write(2) knows where
		if w.opts.Mode == WriteAppend {
			w.begin = info.Size
		}
		if w.opts.Mode == WriteInPlace {
			_, err = unix.Seek(fd, w.begin, 0)
		}
		if err == nil {
			err = w.reserve(fd, w.begin)
		}
		if err != nil {
			closeFD(fd)
			return err
		}
	}
	w.offset = w.begin
	w.w = newWaitable(fd, w.path, info)
	return nil
}

// Offset returns where in the file the next byte goes. After NewWriter with a
// ResumeID it says how much is there already: the caller sends what follows.
func (w *Writer) Offset() int64 { return w.offset }

// Write writes all of p or returns a *[WriteError], after which the Writer can
// only be aborted. It does not keep p.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.WriteBuffers([][]byte{p})
	return int(n), err
}

// WriteBuffers is Write of several buffers with one system call. It neither
// keeps nor changes them.
func (w *Writer) WriteBuffers(bufs [][]byte) (int64, error) {
	if w.done {
		return 0, pathError("write", w.path, fs.ErrClosed)
	}
	if w.err != nil {
		return 0, w.err
	}
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	if total == 0 {
		return 0, nil
	}
	n, err := besideSum(w.sum, w.opts.Checksum, bufs, total, func() (n int64, err error) {
		err = w.fs.do(func() error {
			n, err = w.writev(bufs)
			return err
		})
		return n, err
	})
	w.offset += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = w.ended()
	}
	if err != nil {
		w.err = &WriteError{Path: w.path, Written: w.offset, Err: err}
	}
	return n, w.err
}

// maxIOV is how many buffers one writev(2) takes (IOV_MAX).
const maxIOV = 1024

func (w *Writer) writev(bufs [][]byte) (written int64, err error) {
	raw, err := w.w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	rest := append(w.iov[:0], bufs...)
	defer func() { clear(w.iov[:cap(w.iov)]) }() // do not hold on to the caller's memory
	w.iov = rest[:0]
	for len(rest) > 0 {
		if len(rest[0]) == 0 {
			rest = rest[1:]
			continue
		}
		n := 0
		rawErr := raw.Write(func(fd uintptr) bool {
			err = retry(func() (err error) {
				n, err = unix.Writev(int(fd), rest[:min(len(rest), maxIOV)])
				return err
			})
			return !errors.Is(err, unix.EAGAIN) // a full FIFO: wait in the poller
		})
		if rawErr != nil {
			return written, w.w.rawError(rawErr)
		}
		if err != nil {
			return written, err
		}
		written += int64(n)
		rest = skipBytes(rest, n)
	}
	return written, nil
}

// skipBytes takes n bytes off the front of bufs, whose slice, not content, it
// changes.
func skipBytes(bufs [][]byte, n int) [][]byte {
	for n > 0 {
		if n < len(bufs[0]) {
			bufs[0] = bufs[0][n:]
			break
		}
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	return bufs
}
