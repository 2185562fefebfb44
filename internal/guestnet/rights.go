//go:build linux

package guestnet

import (
	"runtime"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/passwd"
	"github.com/guestd/guestd/internal/threadcred"
	"golang.org/x/sys/unix"
)

// Package fsops changes the file-system ids of a thread, which is all that
// files need. A socket needs the effective ids as well: SO_PEERCRED tells
// them to the other end, and a forward into a service that asks for them must
// not come as root. They change nothing about who may send the agent a
// signal, which goes by the real and the saved ids (kill(2)).

// rights are what a thread gives up and gets back.
type rights struct {
	uid, gid uint32 // effective
	groups   []uint32
	caps     threadcred.Caps
}

// as calls fn on a thread with the ids of user and no capability; nil, and the
// process's own user, are the thread as it is. fn must make its system calls
// itself. Its error is fn's, or an *[fsops.IdentityError] where the process
// cannot become the user.
func as(user *passwd.Identity, fn func() error) error {
	if user == nil || (user.UID == uint32(unix.Geteuid()) && (user.UID == 0 || user.GID == uint32(unix.Getegid()))) {
		return fn()
	}
	runtime.LockOSThread()
	own, err := threadRights()
	if err == nil && !threadcred.CanSwitch(&own.caps) {
		err = unix.EPERM
	}
	if err != nil {
		runtime.UnlockOSThread()
		return &fsops.IdentityError{Identity: *user, Err: err}
	}
	// A thread that is not brought back stays locked, and ends with its
	// goroutine. Deferred, so that a panic in fn cannot carry the rights away.
	defer func() {
		if own.restore() {
			runtime.UnlockOSThread()
		}
	}()
	if err := become(user); err != nil {
		return &fsops.IdentityError{Identity: *user, Err: err}
	}
	return fn()
}

// threadRights are those of the calling thread.
func threadRights() (*rights, error) {
	own := &rights{uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid())}
	var err error
	if own.groups, err = threadcred.Groups(); err != nil {
		return nil, err
	}
	own.caps, err = threadcred.GetCaps()
	return own, err
}

// become makes the calling thread the user's. It may fail half way.
func become(user *passwd.Identity) error {
	if errno := threadcred.SetGroups(user.Groups); errno != 0 {
		return errno
	}
	if errno := setThreadID(unix.SYS_SETRESGID, user.GID); errno != 0 {
		return errno
	}
	// This one clears the effective capabilities unless a securebit says
	// otherwise: hence the call after it.
	if errno := setThreadID(unix.SYS_SETRESUID, user.UID); errno != 0 {
		return errno
	}
	now, err := threadcred.GetCaps()
	if err != nil {
		return err
	}
	now[0].Effective, now[1].Effective = 0, 0
	return errnoErr(threadcred.SetCaps(&now))
}

// restore reports whether the thread has its rights again. The uid comes
// first: the real one is still the agent's, so it needs no capability and
// gives those back that the rest needs.
func (r *rights) restore() bool {
	return setThreadID(unix.SYS_SETRESUID, r.uid) == 0 &&
		threadcred.SetCaps(&r.caps) == 0 &&
		setThreadID(unix.SYS_SETRESGID, r.gid) == 0 &&
		threadcred.SetGroups(r.groups) == 0
}

// setThreadID sets the effective id alone, of this thread alone; the
// file-system id follows it.
func setThreadID(call uintptr, id uint32) unix.Errno {
	const keep = ^uintptr(0)
	_, _, errno := unix.RawSyscall(call, keep, uintptr(id), keep)
	return errno
}

func errnoErr(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
