//go:build linux

package fsops

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultFilePerm is the mode of a new file when none is given.
const defaultFilePerm = 0o644

// openTries bounds how often an open is begun again because the file was made
// or removed between two system calls.
const openTries = 8

// openFile opens a file of the user's for reading or writing, never a directory,
// and never blocks: what stands behind the name is looked at before it is
// opened, since opening a device may have effects, and again afterwards, since
// it may have changed. A file made by it has exactly the mode perm.
//
// O_NONBLOCK is always set. It means nothing to a regular file, and makes the
// open of a FIFO return and its reads wait in Go's poller.
func (f *FS) openFile(abs string, flags int, perm uint32, special bool) (fd int, info *FileInfo, err error) {
	flags |= unix.O_NONBLOCK
	noFollow := 0
	if flags&unix.O_NOFOLLOW != 0 {
		noFollow = unix.AT_SYMLINK_NOFOLLOW
	}
	for range openTries {
		var before FileInfo
		err = statInto(&before, unix.AT_FDCWD, abs, noFollow)
		switch {
		case err == nil && flags&unix.O_CREAT != 0 && flags&unix.O_EXCL != 0:
			return -1, nil, unix.EEXIST
		case err == nil:
			if err = usable(&before, special); err != nil {
				return -1, nil, err
			}
			fd, err = f.openPath(abs, flags&^(unix.O_CREAT|unix.O_EXCL), 0)
		case errors.Is(err, unix.ENOENT) && flags&unix.O_CREAT != 0:
			fd, err = f.createFile(abs, flags, perm)
		}
		if errors.Is(err, unix.ENOENT) && flags&unix.O_CREAT != 0 || errors.Is(err, unix.EEXIST) && flags&unix.O_EXCL == 0 {
			continue
		}
		break
	}
	if err != nil {
		return -1, nil, err
	}
	info, err = statFD(fd)
	if err == nil {
		err = usable(info, special)
	}
	if err != nil {
		closeFD(fd)
		return -1, nil, err
	}
	_, info.Name = splitLast(abs)
	return fd, info, nil
}

// createFile makes a file that was not there a moment ago.
func (f *FS) createFile(abs string, flags int, perm uint32) (int, error) {
	fd, err := createExcl(func(flags int, perm uint32) (int, error) {
		return f.openPath(abs, flags, perm)
	}, flags, perm)
	if !errors.Is(err, unix.EEXIST) || flags&unix.O_EXCL != 0 {
		return fd, err
	}
	// Somebody was faster, or it is a symbolic link to where nothing is yet:
	// O_EXCL refuses those, and without it the kernel makes the file there. Its
	// mode then has the umask taken off, as it may be somebody else's file.
	return f.openPath(abs, flags, perm&permMask)
}

// usable returns why a file may not be opened, or nil.
func usable(info *FileInfo, special bool) error {
	switch {
	case info.IsDir():
		return unix.EISDIR
	case info.IsSymlink():
		return unix.ELOOP // as open(2) has it with O_NOFOLLOW
	case info.IsSpecial() && !special:
		return ErrSpecial
	}
	return nil
}

// waitable is an open file whose reads and writes may have to wait for a peer
// (FIFO, terminal, /proc/kmsg), and then end with the caller's context.
type waitable struct {
	file     *os.File
	pollable bool // it has deadlines; a regular file has none and never waits
	fifo     bool
	closed   atomic.Bool

	// The deadlines belong to whoever holds the token.
	reading, writing chan struct{}
	hadWriter        bool // a FIFO that once had data or a writer; under reading
}

// newWaitable takes over fd, which is non-blocking.
func newWaitable(fd int, name string, info *FileInfo) *waitable {
	w := &waitable{file: os.NewFile(uintptr(fd), name)}
	w.fifo = info.Mode&unix.S_IFMT == unix.S_IFIFO
	if w.pollable = w.file.SetDeadline(time.Time{}) == nil; w.pollable {
		w.reading, w.writing = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	return w
}

// read calls fn, which reads from the file, so that it ends with ctx.
func (w *waitable) read(ctx context.Context, fn func() (int, error)) (int, error) {
	if !w.pollable {
		return fn()
	}
	return w.bounded(ctx, w.reading, w.file.SetReadDeadline, func() (int, error) {
		if err := w.awaitWriter(); err != nil {
			return 0, err
		}
		return fn()
	})
}

// write is read for writing.
func (w *waitable) write(ctx context.Context, fn func() (int, error)) (int, error) {
	if !w.pollable {
		return fn()
	}
	return w.bounded(ctx, w.writing, w.file.SetWriteDeadline, fn)
}

func (w *waitable) bounded(ctx context.Context, token chan struct{}, setDeadline func(time.Time) error, fn func() (int, error)) (int, error) {
	select {
	case token <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-token }()
	if err := setDeadline(time.Time{}); err != nil {
		return 0, w.rawError(err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = setDeadline(time.Unix(1, 0)) // fails only on a closed file, whose reads end anyway
	})
	n, err := fn()
	if !stop() {
		<-ended // or it would hit the next one's deadline
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ctx.Err()
		}
	}
	return n, err
}

// awaitWriter waits until a FIFO has had a writer. Before the first one a
// non-blocking read says end of file; poll(2) tells the difference, as it
// reports nothing until then.
func (w *waitable) awaitWriter() error {
	if !w.fifo || w.hadWriter {
		return nil
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	})
	w.hadWriter = err == nil
	return w.rawError(err)
}

// close closes the file, which ends what waits.
func (w *waitable) close() error {
	w.closed.Store(true)
	return w.file.Close()
}

// rawError makes an error of a [syscall.RawConn] what the methods of os.File
// return: it has an error of its own for a closed file.
func (w *waitable) rawError(err error) error {
	if err != nil && w.closed.Load() {
		return fs.ErrClosed
	}
	return err
}

// control calls fn with the descriptor, which stays open meanwhile.
func (w *waitable) control(fn func(fd int) error) error {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); ctlErr != nil {
		return w.rawError(ctlErr)
	}
	return err
}

// readsFreely reports whether the kernel, once it has let the user open the file,
// checks no rights when it is read: then a thread need not take on the user's
// rights for each read, which costs as much as reading 64 KiB. So it is on file
// systems that hold their data themselves. In /proc what a read returns may depend
// on the reader, and a server behind FUSE or NFS is told who reads.
func readsFreely(fd int, info *FileInfo) bool {
	if !info.IsRegular() {
		return false
	}
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return false
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.SQUASHFS_MAGIC:
		return true
	}
	return false
}

// doRead is do for a read from a file; see readsFreely.
func (f *FS) doRead(freely bool, fn func() error) error {
	if freely {
		return fn()
	}
	return f.do(fn)
}

// closeWritten calls close while no child is between fork and exec: a child that
// held a program which was just written would make starting that program fail
// with ETXTBSY.
func closeWritten(close func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return close()
}

// reserveSpace reserves size bytes from offset on without changing what the
// file's size is. A file system that cannot is asked at the latest by the write.
func reserveSpace(fd int, offset, size int64) error {
	var disk unix.Statfs_t
	if unix.Fstatfs(fd, &disk) == nil {
		// Of what can never fit, fallocate(2) takes all there is before it says
		// so, and nobody else could write meanwhile.
		if needsMoreThanFree(&disk, fd, offset, size) {
			return unix.ENOSPC
		}
		// In memory it makes page after page: half a second for a GiB in which
		// nothing is received, and no write is the faster for it.
		if disk.Type == unix.TMPFS_MAGIC {
			return nil
		}
	}
	err := retry(func() error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, offset, size) })
	if isAny(err, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EINVAL, unix.ESPIPE) {
		return nil
	}
	return err
}

// needsMoreThanFree reports whether a reservation is larger than all that is
// free. It is sure if it says so: what the file has already is not counted.
func needsMoreThanFree(disk *unix.Statfs_t, fd int, offset, size int64) bool {
	var file unix.Stat_t
	if unix.Fstat(fd, &file) != nil {
		return false
	}
	const block = 512 // of st_blocks, whatever the file system's
	has := file.Blocks * block
	if disk.Blocks == 0 || disk.Frsize <= 0 || has < file.Size {
		return false // without a limit of its own; or with holes, of which nobody knows where
	}
	needs := min(size, offset+size-has)
	return needs > 0 && uint64(needs)/uint64(disk.Frsize) > disk.Bfree
}
