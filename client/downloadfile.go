package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// fileDownload moves one file from the guest, part by part if the connection
// breaks.
type fileDownload struct {
	files    *Files
	from, to string
	options  DownloadOptions
	meter    *meter
	info     *FileInfo // as it was when the download began
	content  int64     // bytes of the part outside holes

	// claim is locked from before the part is written until it is in its place;
	// nil if the part has a name that no other download knows.
	claim *os.File
}

// errChanged is a file that is not the one which the download began with.
var errChanged = errors.New("the file changed while it was downloaded")

func (d *fileDownload) run(ctx context.Context) (Transfer, error) {
	d.meter.update(func(p *Progress) {
		*p = Progress{Path: filepath.Base(d.to), Files: 1, Total: d.info.Size()}
	})
	if d.options.KeepExisting && isThere(d.to) {
		return keptTransfer(d.to), nil
	}
	part, err := d.openPart()
	if err != nil {
		return Transfer{}, err
	}
	defer part.Close()
	if d.claim != nil {
		defer d.claim.Close()
	}
	err = d.fetch(ctx, part)
	if err == nil {
		err = d.finish(part)
	}
	if err != nil && (d.claim == nil || errors.Is(err, errChanged)) {
		err = firstError(err, os.Remove(part.Name()))
	}
	if err != nil {
		return Transfer{}, err
	}
	return Transfer{Files: 1, Bytes: d.content}, nil
}

// isThere reports whether a local path names something, also a link that leads
// nowhere.
func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// openPart opens the temporary file next to the target: with Resume the one that
// an earlier attempt left for the same file of the guest, unless another download
// is using it.
func (d *fileDownload) openPart() (*os.File, error) {
	dir, base := filepath.Split(d.to)
	if base == "" {
		return nil, &fs.PathError{Op: "download", Path: d.to, Err: fs.ErrInvalid}
	}
	// What is moved to a device's name takes its place: root would be without
	// /dev/null.
	if info, err := os.Stat(d.to); err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "download", Path: d.to, Err: ErrWrongType}
	}
	if d.options.Resume {
		part, err := d.openResumable(dir, base)
		if part != nil || err != nil {
			return part, err
		}
	}
	return os.CreateTemp(filepath.Clean(dir+"."), "."+base+".*.part")
}

// openResumable opens, and locks, the part whose name all attempts at this file
// share. It returns nil if another download is using it.
func (d *fileDownload) openResumable(dir, base string) (*os.File, error) {
	id := resumeID("download", d.from, d.info.Inode(), d.info.Size(),
		d.info.ModTime().UnixNano(), d.info.ChangeTime().UnixNano())
	name := filepath.Join(dir, "."+base+"."+id+".part")
	part, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|oNoFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := part.Stat(); err != nil || !info.Mode().IsRegular() {
		part.Close()
		return nil, &fs.PathError{Op: "resume", Path: name, Err: firstError(err, ErrWrongType)}
	}
	claim, err := os.OpenFile(name, os.O_RDONLY|oNoFollow, 0)
	// Another's part, which was made when ours had been moved to its place, is not
	// to be locked for a moment either: its maker would leave it behind.
	if err == nil && isOpenedTwice(claim, part) && lockFile(claim) && isNamed(part, name) {
		d.claim = claim
		return part, nil
	}
	if err == nil {
		claim.Close()
	}
	part.Close()
	return nil, nil
}

// isOpenedTwice reports whether two open files are the same file.
func isOpenedTwice(a, b *os.File) bool {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// isNamed reports whether path still names the open file f: the download that
// had it locked before may have renamed it to its target.
func isNamed(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, named)
}

// fetch reads what is missing, over broken connections.
func (d *fileDownload) fetch(ctx context.Context, part *os.File) error {
	info, err := part.Stat()
	if err != nil {
		return err
	}
	d.content = contentOf(part, info.Size())
	at, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	begin := at
	var limit int64
	for r := d.files.client.recover(); ; {
		n, err := d.read(ctx, part, at, limit)
		at += n
		if n > 0 {
			r = d.files.client.recover() // there is progress: the time begins anew
		}
		switch {
		case err == nil && (limit == 0 || n < limit):
			return nil
		case err == nil:
			limit *= 2
		case !d.mayRepeat(err, at-begin) || !r.next(ctx):
			return err
		case n == 0:
			limit = shortChunk
		}
	}
}

func (d *fileDownload) mayRepeat(err error, received int64) bool {
	lost, ok := errors.AsType[*ConnectionError](err)
	return ok && (lost.Lost || received > 0)
}

// read appends to part from an offset on, at most limit bytes, and returns how
// much that was. 0: no limit.
func (d *fileDownload) read(ctx context.Context, part *os.File, offset, limit int64) (int64, error) {
	r, err := d.files.open(ctx, d.from, ReadOptions{Offset: offset, Length: limit, Checksum: d.options.Checksum}, true)
	if err != nil {
		return 0, err
	}
	defer r.release()
	if offset > 0 && !sameFile(d.info, r.Info()) {
		return 0, fmt.Errorf("%s: %w", joinError("download", d.from, "resume"), errChanged)
	}
	d.info = r.Info()
	d.meter.update(func(p *Progress) { p.Bytes, p.Total = offset, max(d.info.Size(), offset) })
	w := &partWriter{file: part, left: d.options.MaxBytes - d.content, bounded: d.options.MaxBytes > 0, meter: d.meter}
	n, err := r.copyTo(w, w.passHole)
	d.content += n - w.holes
	if errors.Is(err, ErrChecksum) {
		// The next attempt must not build on bytes that failed the check.
		return n, firstError(part.Truncate(offset), err)
	}
	return n, err
}

func sameFile(a, b *FileInfo) bool {
	return a.Inode() == b.Inode() && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.ChangeTime().Equal(b.ChangeTime())
}

// finish gives the part the file's owner, mode and time, and moves it to its
// target.
func (d *fileDownload) finish(part *os.File) error {
	mode := d.info.Mode().Perm()
	if d.options.Owners != OwnersUser {
		if err := d.chown(part); err != nil {
			return err
		}
		mode |= d.info.Mode() & (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	}
	if err := part.Chmod(mode); err != nil {
		return err
	}
	if err := part.Close(); err != nil {
		return err
	}
	// The time of last access stays as it is.
	if err := os.Chtimes(part.Name(), time.Time{}, d.info.ModTime()); err != nil {
		return err
	}
	return os.Rename(part.Name(), d.to)
}

func (d *fileDownload) chown(part *os.File) error {
	uid, gid := d.info.UID(), d.info.GID()
	if d.options.Owners == OwnersNames {
		if id, ok := lookupUser(d.info.Owner()); ok {
			uid = id
		}
		if id, ok := lookupGroup(d.info.Group()); ok {
			gid = id
		}
	}
	return part.Chown(int(uid), int(gid))
}

// partWriter writes to a file, at most left bytes if it is bounded. Holes do not
// count.
type partWriter struct {
	file    *os.File
	left    int64
	bounded bool
	meter   *meter
	holes   int64 // bytes of holes so far
}

// passHole leaves a hole of n bytes, at the end of the file.
func (w *partWriter) passHole(n int64) error {
	end, err := w.file.Seek(n, io.SeekCurrent)
	if err == nil {
		err = w.file.Truncate(end)
	}
	if err != nil {
		return err
	}
	w.holes += n
	w.meter.update(func(progress *Progress) { progress.Bytes += n })
	return nil
}

func (w *partWriter) Write(p []byte) (int, error) {
	if w.bounded && int64(len(p)) > w.left {
		return 0, fmt.Errorf("%w: DownloadOptions.MaxBytes", ErrLimit)
	}
	n, err := w.file.Write(p)
	w.left -= int64(n)
	w.meter.update(func(progress *Progress) { progress.Bytes += int64(n) })
	return n, err
}
