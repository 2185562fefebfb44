package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// closeTimeout bounds a Close, which has no context of its own.
const closeTimeout = 10 * time.Second

// maxTransfer is what one call on an open file carries at most.
const maxTransfer = 1 << 20

// OpenOptions says how to open a file. One of Read and Write is needed.
type OpenOptions struct {
	Read, Write bool
	Append      bool        // every write goes to the end
	Create      bool        // make the file if it is missing
	Exclusive   bool        // with Create: fs.ErrExist if it is there
	Truncate    bool        // cut it to nothing
	Perm        fs.FileMode // of a new file; 0: 0644

	NoFollow     bool // fail if the last element is a symbolic link
	AllowSpecial bool // open FIFOs and devices too
}

// File is an open file in the guest. It belongs to the connection it was opened
// on: if that breaks, every method returns [ErrStaleHandle]; after Close that is
// also [fs.ErrClosed].
//
// The methods of package io have no context. They use the one that the file was
// opened with, or that [File.WithContext] gives: a File without one could never
// be interrupted while the guest does not answer. Methods with a context use
// theirs.
//
// A File may be used by several goroutines, which share its position (Read,
// Write, Seek).
type File struct {
	client *Client
	ctx    context.Context //nolint:containedctx // the methods of package io have none
	handle string
	path   string
	info   *FileInfo
	closed *atomic.Bool
}

var (
	_ io.ReadWriteSeeker = (*File)(nil)
	_ io.ReaderAt        = (*File)(nil)
	_ io.WriterAt        = (*File)(nil)
	_ io.Closer          = (*File)(nil)
)

// OpenFile opens a file as o says. The caller must close it.
func (f *Files) OpenFile(ctx context.Context, path string, o OpenOptions) (*File, error) {
	request := &guestdv1.OpenFileRequest{
		Context:      f.where(),
		Read:         o.Read,
		Write:        o.Write,
		Append:       o.Append,
		Create:       o.Create,
		Exclusive:    o.Exclusive,
		Truncate:     o.Truncate,
		NoFollow:     o.NoFollow,
		AllowSpecial: o.AllowSpecial,
	}
	request.Path, request.RawPath = toWire(path)
	if o.Perm != 0 {
		request.Permissions = new(modeToWire(o.Perm))
	}
	response, err := f.client.file.OpenFile(ctx, request)
	if err != nil {
		return nil, f.client.mapError("open", path, err)
	}
	return &File{
		client: f.client,
		ctx:    ctx,
		handle: response.GetHandle(),
		path:   path,
		info:   infoFromWire(response.GetInfo()),
		closed: new(atomic.Bool),
	}, nil
}

// Create creates or truncates a file and opens it for reading and writing.
func (f *Files) Create(ctx context.Context, path string) (*File, error) {
	return f.OpenFile(ctx, path, OpenOptions{Read: true, Write: true, Create: true, Truncate: true})
}

// WithContext returns the same file with another context for the methods of
// package io.
func (f *File) WithContext(ctx context.Context) *File {
	g := *f
	g.ctx = ctx
	return &g
}

// Name returns the path it was opened by.
func (f *File) Name() string { return f.path }

// Info describes the file as it was when it was opened.
func (f *File) Info() *FileInfo { return f.info }

// Read reads at the position. From a FIFO or device it may return no bytes and
// no error, when there are none yet.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return f.read(p, nil)
}

// ReadAt reads at an offset and leaves the position alone.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: fs.ErrInvalid}
	}
	done := 0
	for done < len(p) {
		n, err := f.read(p[done:], new(uint64(offset)+uint64(done)))
		done += n
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// read makes one call.
func (f *File) read(p []byte, offset *uint64) (int, error) {
	response, err := f.client.file.ReadFile(f.ctx, &guestdv1.ReadFileRequest{
		Handle: f.handle,
		Offset: offset,
		Length: uint32(min(len(p), maxTransfer)),
	})
	if err != nil {
		return 0, f.mapError("read", err)
	}
	if len(response.GetData()) > len(p) {
		return 0, protocolError("%d bytes read instead of %d", len(response.GetData()), len(p))
	}
	n := copy(p, response.GetData())
	if n == 0 && response.GetEof() {
		return 0, io.EOF
	}
	return n, nil
}

// Write writes at the position.
func (f *File) Write(p []byte) (int, error) { return f.write(p, nil) }

// WriteAt writes at an offset and leaves the position alone.
func (f *File) WriteAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.path, Err: fs.ErrInvalid}
	}
	return f.write(p, &offset)
}

func (f *File) write(p []byte, offset *int64) (int, error) {
	done := 0
	for done < len(p) {
		part := p[done:min(len(p), done+maxTransfer)]
		request := &guestdv1.WriteFileRequest{Handle: f.handle, Data: part}
		if offset != nil {
			request.Offset = new(uint64(*offset) + uint64(done))
		}
		if _, err := f.client.file.WriteFile(f.ctx, request); err != nil {
			return done + min(writtenOf(err), len(part)), f.mapError("write", err)
		}
		done += len(part)
	}
	return done, nil
}

// Seek moves the position. The whence is one of package io's, or [SeekData] or
// [SeekHole].
func (f *File) Seek(offset int64, whence int) (int64, error) {
	wire, ok := map[int]guestdv1.Whence{
		io.SeekStart:   guestdv1.Whence_WHENCE_START,
		io.SeekCurrent: guestdv1.Whence_WHENCE_CURRENT,
		io.SeekEnd:     guestdv1.Whence_WHENCE_END,
		SeekData:       guestdv1.Whence_WHENCE_DATA,
		SeekHole:       guestdv1.Whence_WHENCE_HOLE,
	}[whence]
	if !ok {
		return 0, &fs.PathError{Op: "seek", Path: f.path, Err: fs.ErrInvalid}
	}
	response, err := f.client.file.SeekFile(f.ctx, &guestdv1.SeekFileRequest{Handle: f.handle, Offset: offset, Whence: wire})
	if err != nil {
		return 0, f.mapError("seek", err)
	}
	return int64(response.GetPosition()), nil
}

// More values of whence, as in Linux.
const (
	SeekData = 3 // the next data at or after the offset
	SeekHole = 4 // the next hole at or after the offset
)

// Close closes the file, even if its context is done. Its error is that of
// close(2), which matters for a file that was written.
func (f *File) Close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), closeTimeout)
	defer cancel()
	_, err := f.client.file.CloseFile(ctx, &guestdv1.CloseFileRequest{Handle: f.handle})
	err = f.mapError("close", err)
	f.closed.Store(true)
	return err
}

// Stat describes the file as it is now.
func (f *File) Stat(ctx context.Context) (*FileInfo, error) {
	response, err := f.client.file.StatFile(ctx, &guestdv1.StatFileRequest{Handle: f.handle})
	if err != nil {
		return nil, f.mapError("stat", err)
	}
	return infoFromWire(response.GetInfo()), nil
}

// Truncate sets the file's size.
func (f *File) Truncate(ctx context.Context, size int64) error {
	_, err := f.client.file.TruncateFile(ctx, &guestdv1.TruncateFileRequest{Handle: f.handle, Size: uint64(size)})
	return f.mapError("truncate", err)
}

// Sync writes the file to its device, as fsync(2).
func (f *File) Sync(ctx context.Context) error {
	_, err := f.client.file.SyncFile(ctx, &guestdv1.SyncFileRequest{Handle: f.handle})
	return f.mapError("sync", err)
}

// LockOptions says what to lock, and how long to wait for it. The zero value
// locks the whole file exclusively, without waiting.
type LockOptions struct {
	Shared         bool          // compatible with other shared locks
	Wait           time.Duration // 0: not at all
	Offset, Length int64         // range; Length 0: to the end, however it grows
}

// Lock takes an advisory lock, an open file description lock of fcntl(2). The
// error is [ErrLocked] if somebody else holds it.
func (f *File) Lock(ctx context.Context, o LockOptions) error {
	kind := guestdv1.LockType_LOCK_TYPE_EXCLUSIVE
	if o.Shared {
		kind = guestdv1.LockType_LOCK_TYPE_SHARED
	}
	return f.lock(ctx, kind, o)
}

// Unlock releases the lock on a range of the file; with zero options, on all of
// it.
func (f *File) Unlock(ctx context.Context, o LockOptions) error {
	return f.lock(ctx, guestdv1.LockType_LOCK_TYPE_UNLOCK, o)
}

func (f *File) lock(ctx context.Context, kind guestdv1.LockType, o LockOptions) error {
	request := &guestdv1.LockFileRequest{Handle: f.handle, Type: kind, Offset: uint64(o.Offset), Length: uint64(o.Length)}
	if o.Wait > 0 {
		request.Wait = durationpb.New(o.Wait)
	}
	_, err := f.client.file.LockFile(ctx, request)
	return f.mapError("lock", err)
}

func (f *File) mapError(op string, err error) error {
	err = f.client.mapError(op, f.path, err)
	if f.closed.Load() && errors.Is(err, ErrStaleHandle) {
		return &fs.PathError{Op: op, Path: f.path, Err: closedError{err}}
	}
	return err
}

// closedError is fs.ErrClosed, for which the agent says that the handle is stale.
type closedError struct{ err error }

func (e closedError) Error() string { return fs.ErrClosed.Error() }

func (e closedError) Unwrap() []error { return []error{fs.ErrClosed, e.err} }
