//go:build linux

package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// defaultReadLength is how much ReadFile reads where the request does not say.
const defaultReadLength = 64 << 10

// ReadFile implements guestd.v1.FileService.
func (s *fileService) ReadFile(ctx context.Context, req *guestdv1.ReadFileRequest) (*guestdv1.ReadFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	length := req.GetLength()
	switch {
	case length == 0:
		length = defaultReadLength
	case length > wire.MaxData:
		return nil, invalidRequest("length: %d is more than %d", length, wire.MaxData)
	}
	read := file.Read
	if req.Offset != nil {
		offset, err := wireSize("offset", req.GetOffset())
		if err != nil {
			return nil, err
		}
		read = func(ctx context.Context, p []byte) (int, error) {
			n, err := file.ReadAt(ctx, p, offset)
			offset += int64(n)
			return n, err
		}
	}
	data := make([]byte, length)
	n, err := readFull(ctx, read, data, file.special)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &guestdv1.ReadFileResponse{Data: data[:n], Eof: err != nil}, nil
}

// readFull fills p. Of a FIFO or a device it takes what one read gives: to
// wait for more could be for ever. io.EOF is the end of the file, even with
// n > 0.
func readFull(ctx context.Context, read func(context.Context, []byte) (int, error), p []byte, special bool) (n int, err error) {
	for n < len(p) {
		m, err := read(ctx, p[n:])
		n += m
		if err != nil || special {
			return n, err
		}
	}
	return n, nil
}

// WriteFile implements guestd.v1.FileService.
func (s *fileService) WriteFile(ctx context.Context, req *guestdv1.WriteFileRequest) (*guestdv1.WriteFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	data := req.GetData()
	if len(data) > wire.MaxData {
		return nil, invalidRequest("data: %d bytes are more than %d", len(data), wire.MaxData)
	}
	write := file.Write
	if req.Offset != nil {
		offset, err := wireSize("offset", req.GetOffset())
		if err != nil {
			return nil, err
		}
		if file.append {
			return nil, invalidRequest("offset: is set, but the file was opened to append")
		}
		write = func(ctx context.Context, p []byte) (int, error) { return file.WriteAt(ctx, p, offset) }
	}
	n, err := write(ctx, data)
	if err != nil {
		if in, ok := errors.AsType[*fs.PathError](err); ok {
			err = in.Err // the path and what was done are WriteError's
		}
		return nil, &fsops.WriteError{Path: file.abs, Written: int64(n), Err: err}
	}
	return &guestdv1.WriteFileResponse{}, nil
}

// SeekFile implements guestd.v1.FileService.
func (s *fileService) SeekFile(ctx context.Context, req *guestdv1.SeekFileRequest) (*guestdv1.SeekFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	var whence int
	switch req.GetWhence() {
	case guestdv1.Whence_WHENCE_UNSPECIFIED, guestdv1.Whence_WHENCE_START:
		whence = unix.SEEK_SET
	case guestdv1.Whence_WHENCE_CURRENT:
		whence = unix.SEEK_CUR
	case guestdv1.Whence_WHENCE_END:
		whence = unix.SEEK_END
	case guestdv1.Whence_WHENCE_DATA:
		whence = unix.SEEK_DATA
	case guestdv1.Whence_WHENCE_HOLE:
		whence = unix.SEEK_HOLE
	default:
		return nil, invalidRequest("whence: %d is not known", req.GetWhence())
	}
	position, err := file.Seek(req.GetOffset(), whence)
	return &guestdv1.SeekFileResponse{Position: uint64(position)}, err
}

// TruncateFile implements guestd.v1.FileService.
func (s *fileService) TruncateFile(ctx context.Context, req *guestdv1.TruncateFileRequest) (*guestdv1.TruncateFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	size, err := wireSize("size", req.GetSize())
	if err != nil {
		return nil, err
	}
	return &guestdv1.TruncateFileResponse{}, file.Truncate(ctx, size)
}

// SyncFile implements guestd.v1.FileService.
func (s *fileService) SyncFile(ctx context.Context, req *guestdv1.SyncFileRequest) (*guestdv1.SyncFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	return &guestdv1.SyncFileResponse{}, file.Sync(ctx, req.GetDataOnly())
}

// LockFile implements guestd.v1.FileService.
func (s *fileService) LockFile(ctx context.Context, req *guestdv1.LockFileRequest) (*guestdv1.LockFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	opts, err := lockOptions(req)
	if err != nil {
		return nil, err
	}
	waiting := ctx
	if opts.Wait {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, req.GetWait().AsDuration())
		defer cancel()
	}
	err = file.Lock(waiting, opts)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) ||
		errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		// The kernel's errno, if any, says no more than the reason does.
		return nil, &callError{
			reason: guestdv1.ErrorReason_ERROR_REASON_LOCKED,
			text:   "somebody else holds the lock",
			meta:   map[string]string{"path": file.abs, "op": "lock"},
		}
	}
	return &guestdv1.LockFileResponse{}, err
}

// lockOptions checks a request for a lock.
func lockOptions(req *guestdv1.LockFileRequest) (opts fsops.LockOptions, err error) {
	switch req.GetType() {
	case guestdv1.LockType_LOCK_TYPE_SHARED:
		opts.Kind = fsops.LockShared
	case guestdv1.LockType_LOCK_TYPE_EXCLUSIVE:
		opts.Kind = fsops.LockExclusive
	case guestdv1.LockType_LOCK_TYPE_UNLOCK:
		opts.Kind = fsops.LockRelease
	default:
		return opts, invalidRequest("type: %d is not known", req.GetType())
	}
	if opts.Start, err = wireSize("offset", req.GetOffset()); err != nil {
		return opts, err
	}
	if opts.Length, err = wireSize("length", req.GetLength()); err != nil {
		return opts, err
	}
	if wait := req.GetWait(); wait != nil {
		if err := wait.CheckValid(); err != nil || wait.AsDuration() < 0 {
			return opts, invalidRequest("wait: is not a duration from 0 on")
		}
		opts.Wait = wait.AsDuration() > 0
	}
	return opts, nil
}
