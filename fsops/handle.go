//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// openFlags are the flags that [FS.Open] accepts.
const openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_APPEND |
	unix.O_NOFOLLOW | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME

// OpenOptions are the options of [FS.Open]. The zero value opens an existing
// file for reading.
type OpenOptions struct {
	// Flags are those of open(2): O_RDONLY, O_WRONLY or O_RDWR, and O_CREAT,
	// O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_SYNC, O_DSYNC, O_NOATIME.
	// Anything else is EINVAL.
	Flags int

	// Perm is the mode of a new file, exactly; nil is 0644.
	Perm *uint32

	// AllowSpecial opens FIFOs and devices too, which otherwise give
	// [ErrSpecial]. The open itself never waits: a FIFO without a reader gives
	// ENXIO when opened for writing, and one without a writer lets the first
	// Read wait for it.
	AllowSpecial bool
}

// Open opens a file for random access. A directory gives EISDIR.
func (f *FS) Open(ctx context.Context, path string, opts OpenOptions) (*Handle, error) {
	if opts.Flags&^openFlags != 0 {
		return nil, pathError("open", path, unix.EINVAL)
	}
	perm := uint32(defaultFilePerm)
	if opts.Perm != nil {
		perm = *opts.Perm
	}
	var h *Handle
	err := f.withPath(ctx, "open", path, func(abs string) error {
		fd, info, err := f.openFile(abs, opts.Flags, perm, opts.AllowSpecial)
		if err == nil {
			h = f.newHandle(fd, path, info)
			h.appends = opts.Flags&unix.O_APPEND != 0
		}
		return err
	})
	return h, err
}

// Handle is an open file. Its methods are safe for concurrent use, Close among
// them, which ends what waits with fs.ErrClosed. A call has the user's rights
// wherever they matter, which they do even with the file open: a write by root
// would leave setuid bits and use up the space reserved for root.
//
// A context ends a call that waits for the other side of a FIFO or a terminal;
// reads and writes of regular files are not interrupted.
type Handle struct {
	fs   *FS
	path string // as the caller wrote it
	w    *waitable

	appends bool // opened with O_APPEND
	freely  bool // see readsFreely
}

// newHandle takes over fd.
func (f *FS) newHandle(fd int, path string, info *FileInfo) *Handle {
	freely := f.creds != nil && readsFreely(fd, info)
	return &Handle{fs: f, path: path, freely: freely, w: newWaitable(fd, path, info)}
}

// Path returns the path as it was given to [FS.Open].
func (h *Handle) Path() string { return h.path }

// Read reads at the handle's position and moves it; io.EOF at the end.
func (h *Handle) Read(ctx context.Context, p []byte) (int, error) {
	return h.transfer(ctx, "read", h.freely, h.w.read, func() (int, error) { return h.w.file.Read(p) })
}

// ReadAt reads at offset off until p is full; fewer bytes come with io.EOF.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return h.transfer(ctx, "read", h.freely, h.w.read, func() (int, error) { return h.w.file.ReadAt(p, off) })
}

// Write writes all of p at the handle's position, or at the end with O_APPEND.
// Fewer bytes come with an error.
func (h *Handle) Write(ctx context.Context, p []byte) (int, error) {
	return h.transfer(ctx, "write", false, h.w.write, func() (int, error) { return h.w.file.Write(p) })
}

// WriteAt writes all of p at offset off. With O_APPEND the kernel writes at the
// end nevertheless, and the position moves.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.appends {
		return h.Write(ctx, p) // os.File refuses WriteAt then
	}
	return h.transfer(ctx, "write", false, h.w.write, func() (int, error) { return h.w.file.WriteAt(p, off) })
}

// Seek sets the position for Read and Write; see [io.Seeker].
func (h *Handle) Seek(offset int64, whence int) (int64, error) {
	return h.w.file.Seek(offset, whence)
}

// Stat describes the open file, wherever its name is now.
func (h *Handle) Stat(ctx context.Context) (info *FileInfo, err error) {
	err = h.control(ctx, "stat", func(fd int) error {
		info, err = statFD(fd)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, info.Name = splitLast(h.path)
	return info, nil
}

// Statfs describes the file system that holds the file.
func (h *Handle) Statfs(ctx context.Context) (*FSInfo, error) {
	var st unix.Statfs_t
	err := h.control(ctx, "statfs", func(fd int) error {
		return retry(func() error { return unix.Fstatfs(fd, &st) })
	})
	if err != nil {
		return nil, err
	}
	return fsInfo(&st), nil
}

// SetAttr is [FS.SetAttr] of the open file.
func (h *Handle) SetAttr(ctx context.Context, attrs Attrs) error {
	return h.control(ctx, "setattr", func(fd int) error { return setAttrsFD(fd, attrs) })
}

// Truncate cuts the file to size bytes, or extends it with a hole.
func (h *Handle) Truncate(ctx context.Context, size int64) error {
	return h.SetAttr(ctx, Attrs{Size: &size})
}

// Sync waits until the file is on the disk; with dataOnly as fdatasync(2) does
// it, without attributes that are not needed for reading it back.
func (h *Handle) Sync(ctx context.Context, dataOnly bool) error {
	return h.control(ctx, "sync", func(fd int) error {
		if dataOnly {
			return retry(func() error { return unix.Fdatasync(fd) })
		}
		return retry(func() error { return unix.Fsync(fd) })
	})
}

// Close closes the file and frees its locks. A second Close gives fs.ErrClosed.
func (h *Handle) Close() error { return h.w.close() }

func (h *Handle) transfer(ctx context.Context, op string, freely bool, bounded func(context.Context, func() (int, error)) (int, error), fn func() (int, error)) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = h.fs.doRead(freely, func() error {
		n, err = bounded(ctx, fn)
		return err
	})
	if errors.Is(err, io.EOF) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return n, err
	}
	return n, pathError(op, h.path, err)
}

func (h *Handle) control(ctx context.Context, op string, fn func(fd int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return pathError(op, h.path, h.fs.do(func() error { return h.w.control(fn) }))
}
