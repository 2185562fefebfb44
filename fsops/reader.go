//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/sparse"
)

// ReadOptions are the options of [FS.OpenRead]. The zero value reads a regular
// file from beginning to end.
type ReadOptions struct {
	Offset int64 // of the first byte; a negative one counts from the end, not before the beginning
	Length int64 // at most so many bytes; 0 reads to the end

	// Follow waits at the end for more, as tail -F does, until the context
	// ends or the Reader is closed; see [ErrTruncated] and [ErrReplaced]. It is
	// for regular files only.
	Follow bool

	// AllowSpecial reads FIFOs and devices too. Offset must then be 0 where
	// the file cannot seek. A FIFO is read until its last writer closes it,
	// and when there is none yet the first is waited for.
	AllowSpecial bool
}

// OpenRead opens a file for reading one range. The end of ctx ends a Read that
// waits, and every later one, with ctx's error.
//
// What the file's size says is not relied upon: files in /proc say 0 and have
// content, and are read whole.
func (f *FS) OpenRead(ctx context.Context, path string, opts ReadOptions) (*Reader, error) {
	r := &Reader{fs: f, path: path, opts: opts, ended: make(chan struct{})}
	err := f.withPath(ctx, "open", path, func(abs string) error {
		r.abs = abs
		return r.open()
	})
	if err != nil {
		return nil, err
	}
	r.stop = context.AfterFunc(ctx, func() { r.end(ctx.Err()) })
	return r, nil
}

// Reader reads one range of a file. Read is for one goroutine; Close may be
// called by any, and ends a Read that waits. Buffers of 256 KiB and more make
// the system calls cheap.
type Reader struct {
	fs   *FS
	path string // as the caller wrote it
	abs  string
	opts ReadOptions
	stop func() bool

	w      *waitable
	info   *FileInfo // of the file that was opened first
	freely bool      // see readsFreely
	offset int64
	left   int64 // with opts.Length
	watch  *tailWatch

	holesTo int64 // where looking for holes ends; 0 if it is not worth it
	dataTo  int64 // where the data at the offset ends, as far as that is known

	mu     sync.Mutex // guards what end changes while a Read waits
	endErr error
	ended  chan struct{}
}

// open opens the file and goes to the offset. The thread has the user's rights.
func (r *Reader) open() error {
	fd, info, err := r.fs.openFile(r.abs, unix.O_RDONLY, 0, r.opts.AllowSpecial)
	if err != nil {
		return err
	}
	r.offset, r.left = r.opts.Offset, r.opts.Length
	if r.opts.Offset < 0 {
		r.offset = max(0, info.Size+r.opts.Offset)
	}
	switch {
	case r.opts.Follow && info.IsSpecial():
		err = ErrSpecial
	case r.opts.Length < 0:
		err = unix.EINVAL
	case r.offset > 0:
		_, err = unix.Seek(fd, r.offset, io.SeekStart)
	}
	if err != nil {
		closeFD(fd)
		return err
	}
	r.freely = r.fs.creds != nil && readsFreely(fd, info)
	r.w, r.info = newWaitable(fd, r.path, info), info
	if info.IsRegular() && !r.opts.Follow && sparse.Worth(info.Size, info.Blocks) {
		r.holesTo = info.Size
	}
	return nil
}

// Info describes the file as it was when it was opened.
func (r *Reader) Info() *FileInfo { return r.info }

// Offset returns the position in the file of the next byte that Read returns.
func (r *Reader) Offset() int64 { return r.offset }

// SkipHole moves over the hole at the offset. It returns the hole's length, and
// how many bytes of data follow before the next hole; a Read of more than that
// reads zeros. Holes are known only up to the size that the file had when it was
// opened. A Reader that follows, or whose file system does not tell, has none.
//
// For a file that takes as much space as its size it costs no system call.
func (r *Reader) SkipHole() (hole, data int64) {
	if r.offset >= r.dataTo && r.offset < r.holesTo {
		hole = r.findData()
		if r.opts.Length > 0 {
			hole = min(hole, r.left)
		}
		r.offset += hole
		r.left -= hole
	}
	if r.dataTo < r.holesTo && r.offset < r.dataTo {
		return hole, r.dataTo - r.offset
	}
	return hole, math.MaxInt64
}

// findData finds the data at or behind the offset, and returns how far it is.
func (r *Reader) findData() int64 {
	begin := r.offset
	err := r.fs.doRead(r.freely, func() error {
		return r.w.control(func(fd int) error {
			begin, r.dataTo = sparse.NextData(fd, r.offset, r.holesTo)
			_, err := unix.Seek(fd, begin, io.SeekStart)
			return err
		})
	})
	if err != nil {
		r.end(pathError("read", r.path, err)) // or the next Read would read from elsewhere
		return 0
	}
	return begin - r.offset
}

// Read reads up to len(p) bytes; io.EOF at the end of the range or, without
// Follow, of the file.
func (r *Reader) Read(p []byte) (int, error) {
	if r.opts.Length > 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), r.left)]
	}
	if len(p) == 0 {
		return 0, r.failed()
	}
	for {
		if err := r.failed(); err != nil {
			return 0, err
		}
		n, err := r.readOnce(p)
		r.offset += int64(n)
		r.left -= int64(n)
		if n > 0 || err != nil && (!errors.Is(err, io.EOF) || !r.opts.Follow) {
			if n > 0 && errors.Is(err, io.EOF) {
				err = nil
			}
			return n, r.wrap(err)
		}
		if err := r.await(); err != nil {
			return 0, r.wrap(err)
		}
	}
}

func (r *Reader) readOnce(p []byte) (n int, err error) {
	err = r.fs.doRead(r.freely, func() error {
		// The deadline is end's: it is set once, and never taken back.
		if err := r.w.awaitWriter(); err != nil {
			return err
		}
		n, err = r.w.file.Read(p)
		return err
	})
	return n, err
}

// wrap makes the error of an ended Reader the reason for its end.
func (r *Reader) wrap(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, ErrTruncated) || errors.Is(err, ErrReplaced) {
		return err
	}
	if ended := r.failed(); ended != nil {
		return ended
	}
	return pathError("read", r.path, err)
}

// failed returns why the Reader ended, or nil.
func (r *Reader) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endErr
}

// end lets a Read that waits return err, and all later ones. Only the first
// call counts.
func (r *Reader) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endErr != nil {
		return
	}
	r.endErr = err
	close(r.ended)
	if r.w.pollable {
		_ = r.w.file.SetReadDeadline(longAgo)
	}
	if r.watch != nil {
		r.watch.interrupt()
	}
}

// Close frees everything. A second Close gives fs.ErrClosed.
func (r *Reader) Close() error {
	r.stop()
	r.end(pathError("read", r.path, fs.ErrClosed))
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.w.close()
	if r.watch != nil {
		err = errors.Join(err, r.watch.close())
	}
	return err
}
