//go:build linux

package fsops

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

const (
	// followPause is the pause between two looks at a followed file of which the
	// kernel does not tell: its file system does not see the host's changes, or
	// no watch could be had.
	followPause = time.Second
	// missingPause is the same while no file has the name, as in the middle of a
	// log's rotation.
	missingPause = 100 * time.Millisecond
)

// await waits at the end of a followed file until there may be more to read.
// It returns ErrTruncated or ErrReplaced after having gone to the new beginning.
func (r *Reader) await() error {
	if r.watch == nil {
		watch := r.newTailWatch()
		r.mu.Lock()
		ended := r.endErr
		if ended == nil {
			r.watch = watch
		}
		r.mu.Unlock()
		if ended != nil {
			_ = watch.close()
			return ended
		}
		// What came before the watch was set is seen now.
		return r.look(nil)
	}
	missing := false
	if err := r.look(&missing); err != nil || r.grown() {
		return err
	}
	pause := time.Duration(0)
	if missing {
		pause = missingPause
	} else if r.watch.polls {
		pause = followPause
	}
	return r.pause(pause)
}

// grown reports whether there is something to read.
func (r *Reader) grown() bool {
	info, err := r.currentInfo()
	return err == nil && info.Size > r.offset
}

func (r *Reader) currentInfo() (info *FileInfo, err error) {
	err = r.fs.do(func() error {
		return r.w.control(func(fd int) error {
			info, err = statFD(fd)
			return err
		})
	})
	return info, err
}

// look finds out whether the file was cut, or its name means another one now. It
// says in *missing, unless that is nil, whether nothing has the name.
func (r *Reader) look(missing *bool) error {
	now, err := r.currentInfo()
	if err != nil {
		return err
	}
	if now.Size < r.offset {
		if _, err := r.w.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		r.offset = 0
		return ErrTruncated
	}
	if now.Size > r.offset {
		return nil // first to the end of the old one
	}
	var named FileInfo
	err = r.fs.do(func() error { return statInto(&named, unix.AT_FDCWD, r.abs, 0) })
	if err != nil || named.Dev == now.Dev && named.Ino == now.Ino {
		if missing != nil {
			*missing = err != nil
		}
		return nil
	}
	return r.reopen()
}

// reopen goes on with the file that has the name now.
func (r *Reader) reopen() error {
	var fd int
	var info *FileInfo
	err := r.fs.do(func() (err error) {
		fd, info, err = r.fs.openFile(r.abs, unix.O_RDONLY, 0, false)
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	freely := r.fs.creds != nil && readsFreely(fd, info)
	w := newWaitable(fd, r.path, info)
	r.mu.Lock()
	if r.endErr != nil {
		r.mu.Unlock()
		_ = w.close()
		return r.failed()
	}
	old, watch := r.w, r.watch
	r.w, r.watch, r.offset, r.freely = w, nil, 0, freely
	r.mu.Unlock()
	_ = old.close() // only read from
	_ = watch.close()
	return ErrReplaced
}

// pause waits for an event, for as long as d unless that is 0, or for the end.
func (r *Reader) pause(d time.Duration) error {
	if r.watch.file == nil {
		timer := time.NewTimer(max(d, missingPause))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-r.ended:
			return r.failed()
		}
	}
	r.mu.Lock()
	if r.endErr != nil {
		r.mu.Unlock()
		return r.failed()
	}
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	err := r.watch.file.SetReadDeadline(deadline)
	r.mu.Unlock() // from here on end may set one that has passed
	if err != nil {
		return err
	}
	// What happened does not matter: everything is looked at again.
	_, err = r.watch.file.Read(r.watch.buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return r.failed()
	}
	return err
}

// tailWatch tells when to look at a followed file again.
type tailWatch struct {
	file  *os.File // inotify; nil where none could be had
	polls bool     // look now and then as well
	buf   [4096]byte
}

// newTailWatch watches the file and, for its name's sake, the directory. A
// limit that is reached is not an error: there is polling.
func (r *Reader) newTailWatch() *tailWatch {
	t := &tailWatch{polls: true}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return t
	}
	const fileEvents = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
	const dirEvents = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR
	dir, _ := splitLast(r.abs)
	var fileErr, dirErr error
	err = r.fs.do(func() error {
		_, fileErr = unix.InotifyAddWatch(fd, r.abs, fileEvents)
		_, dirErr = unix.InotifyAddWatch(fd, dir, dirEvents)
		return nil
	})
	if err != nil || fileErr != nil && dirErr != nil {
		closeFD(fd)
		return t
	}
	t.file = os.NewFile(uintptr(fd), "inotify")
	t.polls = fileErr != nil || dirErr != nil || r.changedElsewhere()
	return t
}

// changedElsewhere reports whether another machine may change the file without
// this kernel noticing.
func (r *Reader) changedElsewhere() bool {
	var st unix.Statfs_t
	err := r.w.control(func(fd int) error { return unix.Fstatfs(fd, &st) })
	if err != nil {
		return true
	}
	const virtioFS, nineP = 0x6a656a63, 0x01021997
	switch st.Type {
	case virtioFS, nineP, unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return true
	}
	return false
}

func (t *tailWatch) interrupt() {
	if t.file != nil {
		_ = t.file.SetReadDeadline(longAgo)
	}
}

func (t *tailWatch) close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}
