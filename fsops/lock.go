//go:build linux

package fsops

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// LockKind is what [Handle.Lock] does with the range.
type LockKind int

// Kinds of lock.
const (
	LockShared    LockKind = iota // many holders, for reading; the file must be open for that
	LockExclusive                 // one holder; the file must be open for writing
	LockRelease                   // none any longer
)

// LockOptions are the options of [Handle.Lock]. The zero value is a shared lock
// on the whole file.
type LockOptions struct {
	Kind LockKind

	// Start and Length are the range in bytes; Length 0 reaches to the end,
	// however far the file grows.
	Start, Length int64

	// Flock takes a flock(2) lock, which is of the whole file and is what the
	// flock(1) command sees. Otherwise the lock is an open-file-description
	// lock, which conflicts with the fcntl(2) locks that most programs use.
	Flock bool

	// Wait waits for the lock until the context ends; otherwise a lock that is
	// held gives EAGAIN.
	Wait bool
}

// Bounds of the pause between two attempts at a lock. The kernel's own waiting
// cannot be ended by a context.
const (
	lockPauseMin = time.Millisecond
	lockPauseMax = 100 * time.Millisecond
)

// Lock locks or unlocks a range of the file for this handle, not for the
// process: two handles of one file exclude each other. Closing the handle frees
// its locks.
func (h *Handle) Lock(ctx context.Context, opts LockOptions) error {
	for pause := lockPauseMin; ; pause = min(2*pause, lockPauseMax) {
		err := h.control(ctx, "lock", func(fd int) error {
			return retry(func() error { return lockFD(fd, opts) })
		})
		if !opts.Wait || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func lockFD(fd int, opts LockOptions) error {
	if opts.Flock {
		how := map[LockKind]int{LockShared: unix.LOCK_SH, LockExclusive: unix.LOCK_EX, LockRelease: unix.LOCK_UN}
		return unix.Flock(fd, how[opts.Kind]|unix.LOCK_NB)
	}
	types := map[LockKind]int16{LockShared: unix.F_RDLCK, LockExclusive: unix.F_WRLCK, LockRelease: unix.F_UNLCK}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{
		Type:  types[opts.Kind],
		Start: opts.Start,
		Len:   opts.Length,
	})
}
