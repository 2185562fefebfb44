//go:build linux

package guestnet

import (
	"runtime"
	"unsafe"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/passwd"
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
	caps     [2]unix.CapUserData
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
	if err == nil && !own.mayBecome() {
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
	groups, err := unix.Getgroups()
	if err != nil {
		return nil, err
	}
	own.groups = make([]uint32, len(groups))
	for i, g := range groups {
		own.groups[i] = uint32(g)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return own, unix.Capget(&header, &own.caps[0])
}

// mayBecome reports whether a thread with these rights may take on a user's.
func (r *rights) mayBecome() bool {
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return r.caps[0].Effective&need == need
}

// become makes the calling thread the user's. It may fail half way.
func become(user *passwd.Identity) error {
	if errno := setThreadGroups(user.Groups); errno != 0 {
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
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var now [2]unix.CapUserData
	if err := unix.Capget(&header, &now[0]); err != nil {
		return err
	}
	now[0].Effective, now[1].Effective = 0, 0
	return errnoErr(setThreadCaps(&now))
}

// restore reports whether the thread has its rights again. The uid comes
// first: the real one is still the agent's, so it needs no capability and
// gives those back that the rest needs.
func (r *rights) restore() bool {
	return setThreadID(unix.SYS_SETRESUID, r.uid) == 0 &&
		setThreadCaps(&r.caps) == 0 &&
		setThreadID(unix.SYS_SETRESGID, r.gid) == 0 &&
		setThreadGroups(r.groups) == 0
}

// setThreadID sets the effective id alone, of this thread alone; the
// file-system id follows it.
func setThreadID(call uintptr, id uint32) unix.Errno {
	const keep = ^uintptr(0)
	_, _, errno := unix.RawSyscall(call, keep, uintptr(id), keep)
	return errno
}

func setThreadGroups(groups []uint32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return errno
}

func setThreadCaps(data *[2]unix.CapUserData) unix.Errno {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(data)), 0)
	return errno
}

func errnoErr(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
