//go:build linux

package fsops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// WriteMode is how a [Writer] treats a file that is there already.
type WriteMode int

const (
	// WriteAtomic, the default, writes to a temporary file in the same
	// directory, which takes the target's place with [Writer.Commit]. Until
	// then, and after any failure, the target is as it was. Who has the old
	// file open, or a hard link to it, keeps it; extended attributes and ACLs
	// of the old file are not kept.
	WriteAtomic WriteMode = iota

	// WriteExclusive is WriteAtomic for a target that must not exist: else
	// EEXIST, at the beginning or at Commit.
	WriteExclusive

	// WriteTruncate empties the file, or makes it, and writes in place.
	WriteTruncate

	// WriteAppend writes at the end of the file, or makes it.
	WriteAppend

	// WriteInPlace overwrites from WriteOptions.Offset on and leaves the rest,
	// or makes the file.
	WriteInPlace
)

// replaces says that the mode works with a temporary file.
func (m WriteMode) replaces() bool { return m == WriteAtomic || m == WriteExclusive }

// WriteOptions are the options of [FS.NewWriter]. The zero value replaces the
// file atomically.
type WriteOptions struct {
	Mode WriteMode

	// Perm is the mode that Commit sets, exactly. Nil keeps that of the file
	// which is replaced, but for setuid, setgid and sticky; a new one has 0644.
	Perm *uint32

	// UID and GID are the owner that Commit sets. Nil keeps that of the file
	// which is replaced, where the user may do that; a new one is the user's.
	UID, GID *uint32

	// Mtime is the time of modification that Commit sets; nil is now.
	Mtime *time.Time

	// Offset is where WriteInPlace begins.
	Offset int64

	// Size is how many bytes will be in the file (or, in the modes that do not
	// replace it, how many will be written), if greater than 0. Space is
	// reserved at once, so that ENOSPC comes before the data, and Commit
	// refuses any other size with a *[SizeError].
	Size int64

	// Checksum is the sum to compute over the file (or what is written), and
	// Sum what it must be, if not nil. It can be given to Commit as well.
	Checksum Algorithm
	Sum      []byte

	// Sync makes Commit wait until the file and its name are on the disk.
	Sync bool

	// ResumeID, with WriteAtomic and WriteExclusive, keeps what has arrived
	// when the Writer is aborted: the next one for the same target and id goes
	// on behind it, see [Writer.Offset]. Choose an id that is another one when
	// the content is, and give a checksum. The partial file stays for
	// [Config.PartialMaxAge].
	ResumeID string

	// ResumeAt, with ResumeID, is where to go on, for a caller that has asked
	// with [FS.StatPartial]: what has arrived beyond is cut off, and where less
	// has arrived NewWriter fails with [ErrResume]. Nil goes on behind all.
	ResumeAt *int64

	// MakeParents makes missing directories, with mode 0755.
	MakeParents bool

	// NoFollow replaces a symbolic link itself; otherwise what it points to is
	// written, as editors and scp do. WriteExclusive never follows.
	NoFollow bool

	// AllowSpecial writes into a FIFO or device, whatever the mode says. A FIFO
	// without a reader gives ENXIO.
	AllowSpecial bool
}

// Writer writes one file. It is for one goroutine and must be ended by
// [Writer.Commit] or [Writer.Abort]; to defer Abort is always right.
type Writer struct {
	fs   *FS
	path string // as the caller wrote it
	opts WriteOptions

	w      *waitable
	stop   func() bool
	target *target // nil where nothing is replaced
	temp   string  // name of the temporary file in the target's directory
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
	w := &Writer{fs: f, path: path, opts: opts, sum: opts.Checksum.New(), stop: func() bool { return true }}
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
		if err != errDirect {
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
				unix.Close(fd)
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
		if err := sumPartial(ctx, fd, w.sum); err != nil {
			return err
		}
	}
	return w.reserve(fd, w.offset)
}

// reserve lets a file that cannot fit fail before it is sent.
func (w *Writer) reserve(fd int, from int64) error {
	if w.opts.Size <= 0 || w.opts.Size <= from-w.begin {
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
			unix.Close(fd)
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
			return err != unix.EAGAIN // a full FIFO: wait in the poller
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
		w.finish(missing || w.err != nil || ctx.Err() != nil)
		return nil, err
	}
	w.temp = ""
	w.finish(false)
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
		if err := setAttrsFD(fd, a); err != nil && err != unix.EPERM {
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
	err = errors.Join(err, w.w.close())
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
