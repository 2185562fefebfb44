//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// DirEntry is one name in a directory.
type DirEntry struct {
	Name   string    // bytes, never "." or ".."
	Type   uint32    // S_IFMT bits as in [FileInfo.Mode]; 0 where the file system does not say
	Ino    uint64    // inode number in the directory; at a mount point not the one that stat gives
	Cookie int64     // the position after this entry, for [ReadDirOptions] and [Dir.SeekCookie]
	Info   *FileInfo // as of lstat, where it was asked for
	Err    error     // why Info was asked for and is not there
}

// ReadDirOptions are the options of [FS.ReadDir]. The zero value lists
// everything in the file system's order, names and types only.
type ReadDirOptions struct {
	Stat   bool  // fill Info; an entry removed in the meantime is left out
	Sorted bool  // by the bytes of the names; bounded by [Config.MaxSorted]
	Cookie int64 // begin after the entry that had this cookie; 0 at the beginning
	Limit  int   // at most so many entries; 0 is all
}

// dirBatch is how many entries a callback gets at most.
const dirBatch = 1024

// ReadDir calls fn with the directory's entries, up to some thousand at a time,
// and holds no more than those in memory unless they are to be sorted. The
// slice and the infos in it are used again when fn returns; strings may be kept.
// fn is called on a thread that has the user's rights, see [FS.Do]; its error
// ends the listing and is returned as it is.
//
// Entries that are made or removed while the listing runs may or may not be in
// it; all others are, once.
func (f *FS) ReadDir(ctx context.Context, path string, opts ReadDirOptions, fn func([]DirEntry) error) error {
	dir, err := f.OpenDir(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if opts.Cookie != 0 {
		if err := dir.SeekCookie(opts.Cookie); err != nil {
			return err
		}
	}
	if opts.Sorted {
		return dir.sorted(ctx, opts, fn)
	}
	return f.do(func() error {
		reused := new(DirBatch)
		for left := opts.Limit; ; {
			limit := dirBatch
			if opts.Limit > 0 {
				limit = min(limit, left)
			}
			entries, err := dir.next(ctx, reused, limit, opts.Stat)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := fn(entries); err != nil {
				return err
			}
			if left -= len(entries); opts.Limit > 0 && left <= 0 {
				return nil
			}
		}
	})
}

// DirBatch is memory for [Dir.NextBatch], which one batch after the other uses.
// The zero value is ready. It is for one goroutine.
type DirBatch struct {
	entries []DirEntry
	infos   []FileInfo
}

// Dir is an open directory that is read page by page. It is safe for concurrent
// use, though pages then go to whoever comes first. Close it.
type Dir struct {
	fs   *FS
	path string // as the caller wrote it

	mu     sync.Mutex
	fd     int // -1 when closed
	reader *direntReader
}

// OpenDir opens a directory for reading it page by page.
func (f *FS) OpenDir(ctx context.Context, path string) (*Dir, error) {
	dir := &Dir{fs: f, path: path}
	err := f.withPath(ctx, "opendir", path, func(abs string) (err error) {
		// O_DIRECTORY refuses a FIFO or device before opening it.
		dir.fd, err = f.openPath(abs, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	dir.reader = newDirentReader(dir.fd)
	return dir, nil
}

// Path returns the path as it was given to [FS.OpenDir].
func (d *Dir) Path() string { return d.path }

// Next returns the next entries, up to limit, with their infos if stat is set.
// It returns at least one, or an error: io.EOF after the last. The slice is
// the caller's.
func (d *Dir) Next(ctx context.Context, limit int, stat bool) (entries []DirEntry, err error) {
	return d.NextBatch(ctx, new(DirBatch), limit, stat)
}

// NextBatch is [Dir.Next] into memory that is used again: the slice and the
// infos in it are the caller's until the next call with the same batch; strings
// may be kept.
func (d *Dir) NextBatch(ctx context.Context, batch *DirBatch, limit int, stat bool) (entries []DirEntry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = d.fs.do(func() error {
		entries, err = d.next(ctx, batch, max(limit, 1), stat)
		return err
	})
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	return entries, pathError("readdir", d.path, err)
}

// SeekCookie goes to the position after the entry that had the cookie; 0 is
// the beginning. A cookie is good for any Dir of the same directory, though
// not on every file system after it has changed.
func (d *Dir) SeekCookie(cookie int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return pathError("seek", d.path, fs.ErrClosed)
	}
	d.reader.rest = nil
	_, err := unix.Seek(d.fd, cookie, io.SeekStart)
	return pathError("seek", d.path, err)
}

// Stat describes the directory itself.
func (d *Dir) Stat(ctx context.Context) (info *FileInfo, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return nil, pathError("stat", d.path, fs.ErrClosed)
	}
	err = d.fs.do(func() error {
		info, err = statFD(d.fd)
		return err
	})
	if err != nil {
		return nil, pathError("stat", d.path, err)
	}
	_, info.Name = splitLast(d.path)
	return info, nil
}

// Close frees the descriptor. A second Close gives fs.ErrClosed.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return pathError("close", d.path, fs.ErrClosed)
	}
	fd := d.fd
	d.fd = -1
	d.reader.release()
	return pathError("close", d.path, unix.Close(fd))
}

// next fills batch with up to limit entries; io.EOF when there are none. The
// thread has the user's rights.
func (d *Dir) next(ctx context.Context, batch *DirBatch, limit int, stat bool) ([]DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return nil, pathError("readdir", d.path, fs.ErrClosed)
	}
	entries := batch.room(limit, stat)
	for len(entries) < limit {
		if len(entries) > 0 && !d.reader.buffered() && len(entries) >= dirBatch/2 {
			break // a decent batch: do not make the caller wait for the disk
		}
		var entry DirEntry
		ok, err := d.reader.next(&entry)
		if err != nil {
			return nil, pathError("readdir", d.path, err)
		}
		if !ok {
			break
		}
		if stat && !fillInfo(d.fd, &entry, batch.info(len(entries))) {
			continue
		}
		entries = append(entries, entry)
		if len(entries)%256 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	batch.entries = entries
	if len(entries) == 0 {
		return nil, io.EOF
	}
	return entries, nil
}

// room returns the batch's entries, none of them used, with room for limit of
// them, though not for more than are usual.
func (b *DirBatch) room(limit int, stat bool) []DirEntry {
	limit = min(limit, dirBatch)
	if cap(b.entries) < limit {
		b.entries = make([]DirEntry, 0, limit)
	}
	if stat && len(b.infos) < limit {
		b.infos = make([]FileInfo, limit)
	}
	return b.entries[:0]
}

// info returns the memory for the info of the entry i.
func (b *DirBatch) info(i int) *FileInfo {
	if i < len(b.infos) {
		return &b.infos[i]
	}
	return new(FileInfo)
}

// fillInfo describes entry in the directory dirfd, in *info, and reports
// whether it is still there.
func fillInfo(dirfd int, entry *DirEntry, info *FileInfo) bool {
	err := describe(info, dirfd, entry.Name, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false
	}
	if err != nil {
		entry.Err = err
		return true
	}
	entry.Info, entry.Type = info, info.Mode&unix.S_IFMT
	return true
}

// sorted reads all entries before it describes and hands out any.
func (d *Dir) sorted(ctx context.Context, opts ReadDirOptions, fn func([]DirEntry) error) error {
	return d.fs.do(func() error {
		var all []DirEntry
		batch := new(DirBatch)
		for {
			entries, err := d.next(ctx, batch, dirBatch, false)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if all = append(all, entries...); len(all) > d.fs.sys.cfg.MaxSorted {
				return pathError("readdir", d.path, ErrTooMany)
			}
		}
		slices.SortFunc(all, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
		return d.handOut(ctx, all, opts, fn)
	})
}

// handOut calls fn with entries in batches, described if asked for.
func (d *Dir) handOut(ctx context.Context, entries []DirEntry, opts ReadDirOptions, fn func([]DirEntry) error) error {
	if opts.Limit > 0 && len(entries) > opts.Limit {
		entries = entries[:opts.Limit]
	}
	infos := make([]FileInfo, min(len(entries), dirBatch))
	for batch := range slices.Chunk(entries, dirBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		kept := batch[:0]
		for _, entry := range batch {
			if !opts.Stat || fillInfo(d.fd, &entry, &infos[len(kept)]) {
				kept = append(kept, entry)
			}
		}
		if len(kept) == 0 {
			continue
		}
		if err := fn(kept); err != nil {
			return err
		}
	}
	return nil
}
