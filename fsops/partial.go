//go:build linux

package fsops

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/sparse"
)

// Names of temporary files: .guestd-ID.part, in the directory of the target.
const (
	partialPrefix = ".guestd-"
	partialSuffix = ".part"
	partialIDSize = 16 // bytes, written in hexadecimal
)

// maxPartials bounds the list of partial files that a System remembers; a
// longer one loses its oldest, which [FS.CleanPartials] still finds.
const maxPartials = 1000

// partialName returns the temporary name for a file called target: random, or
// with a resume id always the same. The id is the caller's and may be anything;
// hashed, it is a name.
func partialName(target, resumeID string) string {
	var id [partialIDSize]byte
	if resumeID == "" {
		rand.Read(id[:]) // never fails
	} else {
		sum := sha256.Sum256([]byte(target + "\x00" + resumeID))
		copy(id[:], sum[:])
	}
	return partialPrefix + hex.EncodeToString(id[:]) + partialSuffix
}

func isPartialName(name string) bool {
	id, ok := strings.CutPrefix(name, partialPrefix)
	id, ok2 := strings.CutSuffix(id, partialSuffix)
	if !ok || !ok2 || len(id) != 2*partialIDSize {
		return false
	}
	_, err := hex.DecodeString(id)
	return err == nil
}

// StatPartial describes the partial file that a [Writer] with the resume id left,
// or is writing, for path: how many bytes have arrived, and when the last of them
// did. Where there is none, the error is fs.ErrNotExist. A path whose last element
// is a symbolic link means what the link points to.
func (f *FS) StatPartial(ctx context.Context, path, resumeID string) (size int64, mtime time.Time, err error) {
	var info FileInfo
	err = f.withPath(ctx, "stat", path, func(abs string) error {
		t, err := f.openTarget(abs, false)
		if err != nil {
			return err
		}
		defer t.close()
		return statInto(&info, t.dirfd, partialName(t.name, resumeID), unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	if !info.IsRegular() || info.UID != f.id.UID {
		return 0, time.Time{}, pathError("stat", path, unix.ENOENT) // not one of the user's writers made it
	}
	return info.Size, info.Mtime, nil
}

// openPartial opens the temporary file for t and locks it, so that neither
// another writer nor the clean-up takes it. With a resume id it goes on with
// one that is there; its size is then where to go on.
func (f *FS) openPartial(t *target, resumeID string) (fd int, name string, size int64, err error) {
	for range openTries {
		name = partialName(t.name, resumeID)
		fd, err = openAt(t.dirfd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		if errors.Is(err, unix.EEXIST) && resumeID != "" {
			fd, err = openAt(t.dirfd, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return -1, "", 0, err
		}
		size, err = f.takePartial(fd, t.dirfd, name)
		if err == nil {
			return fd, name, size, nil
		}
		closeFD(fd)
		if !errors.Is(err, unix.ESTALE) {
			return -1, "", 0, err
		}
	}
	return -1, "", 0, err
}

// takePartial locks an open partial file and checks that it is still the one
// of that name (else ESTALE) and nobody else's: in a directory like /tmp any
// user can make a file with a name that can be known beforehand.
func (f *FS) takePartial(fd, dirfd int, name string) (size int64, err error) {
	err = retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return 0, ErrBusy
	}
	if err != nil {
		return 0, err
	}
	var open, named FileInfo
	if err := statInto(&open, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return 0, err
	}
	if err := statInto(&named, dirfd, name, unix.AT_SYMLINK_NOFOLLOW); err != nil || named.Ino != open.Ino || named.Dev != open.Dev {
		return 0, unix.ESTALE
	}
	if !open.IsRegular() || open.Nlink != 1 || open.UID != f.id.UID || open.Perm()&0o077 != 0 {
		return 0, unix.EPERM
	}
	return open.Size, nil
}

// sumPartial adds the content of an open file of size bytes to sum, which may be
// nil, and leaves the position at its end.
func sumPartial(ctx context.Context, fd int, size int64, sum hash.Hash) error {
	buf := make([]byte, 256<<10)
	for at := int64(0); sum != nil && at < size; {
		begin, end := sparse.NextData(fd, at, size)
		if err := sparse.WriteZeros(sum, begin-at, ctx.Err); err != nil {
			return err
		}
		if begin == end && end < size {
			return ErrResume // somebody has cut it
		}
		for at = begin; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			var n int
			err := retry(func() (err error) {
				n, err = unix.Pread(fd, buf[:min(end-at, int64(len(buf)))], at)
				return err
			})
			if err != nil {
				return err
			}
			if n == 0 {
				return ErrResume
			}
			sum.Write(buf[:n])
			at += int64(n)
		}
	}
	_, err := unix.Seek(fd, size, io.SeekStart)
	return err
}

// partialList remembers the partial files that were left for resuming, so that
// they are removed when nobody comes back.
type partialList struct {
	mu   sync.Mutex
	left []leftPartial // oldest first
}

type leftPartial struct {
	fs   *FS
	path string // absolute
	at   time.Time
}

func (l *partialList) add(f *FS, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.left) >= maxPartials {
		l.left = l.left[1:]
	}
	l.left = append(l.left, leftPartial{f, path, time.Now()})
}

// expired takes out those that were left before limit.
func (l *partialList) expired(limit time.Time) (old []leftPartial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.left) > 0 && l.left[0].at.Before(limit) {
		old = append(old, l.left[0])
		l.left = l.left[1:]
	}
	return old
}

// sweepPartials removes the partial files that have become too old. It runs
// when a writer begins: no timer keeps an idle agent awake. One that was last
// written to in what is now the future, since the clock was set back, is as old
// as the list says.
func (s *System) sweepPartials() {
	now := time.Now()
	limit := now.Add(-s.cfg.PartialMaxAge)
	for _, old := range s.partials.expired(limit) {
		dir, name := splitLast(old.path)
		err := old.fs.do(func() error {
			fd, err := old.fs.openPath(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			defer closeFD(fd)
			_, err = removePartial(fd, name, func(t time.Time) bool { return !t.After(limit) || t.After(now) })
			return err
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			s.log.Warn("stale partial file not removed", "path", old.path, "error", err)
		}
	}
}

// CleanPartials removes from the directory dir the partial files that nobody has
// written to for age and that no writer has open, and returns how many it removed.
// An age of 0 is [Config.PartialMaxAge]. It is for what an earlier process left:
// this one removes its own by itself.
func (f *FS) CleanPartials(ctx context.Context, dir string, age time.Duration) (removed int, err error) {
	if age == 0 {
		age = f.sys.cfg.PartialMaxAge
	}
	limit := time.Now().Add(-age)
	d, err := f.OpenDir(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.Close() }()
	err = f.do(func() error {
		var batch DirBatch
		for {
			entries, err := d.next(ctx, &batch, dirBatch, false)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, entry := range entries {
				if !isPartialName(entry.Name) {
					continue
				}
				ok, err := removePartial(d.fd, entry.Name, func(t time.Time) bool { return !t.After(limit) })
				if err != nil && !errors.Is(err, unix.ENOENT) {
					return err
				}
				if ok {
					removed++
				}
			}
		}
	})
	return removed, pathError("clean", dir, err)
}

// removePartial removes a partial file that is stale by when it was last
// written to, unless it is in use.
func removePartial(dirfd int, name string, stale func(mtime time.Time) bool) (bool, error) {
	fd, err := openAt(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer closeFD(fd)
	var info FileInfo
	if err := statInto(&info, fd, "", unix.AT_EMPTY_PATH); err != nil {
		return false, err
	}
	if !info.IsRegular() || !stale(info.Mtime) {
		return false, nil
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false, nil
	}
	err = retry(func() error { return unix.Unlinkat(dirfd, name, 0) })
	return err == nil, err
}
