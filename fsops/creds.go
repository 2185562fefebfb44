//go:build linux

package fsops

import (
	"runtime"
	"slices"

	"github.com/guestd/guestd/internal/passwd"
	"github.com/guestd/guestd/internal/threadcred"
	"golang.org/x/sys/unix"
)

// The kernel keeps credentials per thread. Package threadcred changes only those
// of the one that the goroutine is locked to, so that other goroutines keep the
// agent's rights.
//
// setfsuid(2) is what the kernel checks files against, and unlike seteuid(2) it
// does not let the user's processes send signals to the agent. It clears only
// the file-system capabilities, though: CAP_SETFCAP or CAP_SYS_ADMIN would
// remain, and with them "the user" could give a file of its own the
// security.capability of root. So the effective set is cleared as well.

// ownCreds is what the threads of the process have and return to.
type ownCreds struct {
	uid, gid  uint32 // effective ids, which the file-system ids follow
	groups    []uint32
	caps      threadcred.Caps
	canSwitch bool
}

// creds are the rights that a thread takes on for a while.
type creds struct {
	own      *ownCreds
	id       passwd.Identity
	groups   []uint32 // what setgroups gets
	keepCaps bool     // uid 0 with another group: still root
	sameList bool     // the groups are the process's own already
}

func readOwnCreds() (ownCreds, error) {
	own := ownCreds{uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid())}
	var err error
	if own.groups, err = threadcred.Groups(); err != nil {
		return ownCreds{}, err
	}
	if own.caps, err = threadcred.GetCaps(); err != nil {
		return ownCreds{}, err
	}
	own.canSwitch = threadcred.CanSwitch(&own.caps)
	return own, nil
}

// credsFor returns nil where the process's own rights are those of id already:
// for root this is the fast path of everything, as root's capabilities make
// its groups irrelevant. The own user of an unprivileged process is taken as
// it is, since that process cannot change its groups anyway.
func (own *ownCreds) credsFor(id passwd.Identity) (*creds, error) {
	if id.UID == own.uid && id.GID == own.gid {
		return nil, nil
	}
	if !own.canSwitch {
		return nil, &IdentityError{Identity: id, Err: unix.EPERM}
	}
	groups := slices.Clone(id.Groups)
	slices.Sort(groups)
	groups = slices.Compact(groups)
	sorted := slices.Clone(own.groups)
	slices.Sort(sorted)
	return &creds{
		own:      own,
		id:       id,
		groups:   groups,
		keepCaps: id.UID == 0,
		sameList: slices.Equal(groups, sorted),
	}, nil
}

// do calls fn with the user's rights; see [FS.Do].
func (f *FS) do(fn func() error) error {
	if f.creds == nil {
		return fn()
	}
	nested, err := f.creds.enter()
	if err != nil {
		return err
	}
	// Deferred, so that a panic or Goexit in fn cannot carry the rights away.
	defer f.leave(nested)
	return fn()
}

// enter locks the goroutine to its thread and takes on c. Where the thread has
// these rights already (a call from within [FS.Do]) it says nested and changes
// nothing. On an error the thread is as before and unlocked.
func (c *creds) enter() (nested bool, err error) {
	runtime.LockOSThread()
	uid, gid := fsIDs()
	if uid != c.own.uid || gid != c.own.gid {
		return c.enterNested(uid, gid)
	}
	if !c.sameList {
		if errno := threadcred.SetGroups(c.groups); errno != 0 {
			runtime.UnlockOSThread()
			return false, &IdentityError{Identity: c.id, Err: errno}
		}
	}
	setThreadFSGID(c.id.GID)
	setThreadFSUID(c.id.UID)
	// setfsuid and setfsgid never say that they failed, which they do for an
	// id that the user namespace does not map.
	uid, gid = fsIDs()
	ok := uid == c.id.UID && gid == c.id.GID
	errno := unix.EINVAL
	if ok && !c.keepCaps {
		dropped := c.own.caps
		dropped[0].Effective, dropped[1].Effective = 0, 0
		errno = threadcred.SetCaps(&dropped)
		ok = errno == 0
	}
	if !ok {
		if c.restore() {
			runtime.UnlockOSThread()
		}
		return false, &IdentityError{Identity: c.id, Err: errno}
	}
	return false, nil
}

// enterNested allows a second entry of the same identity only: the thread has
// no capability left to become another one, and to go on with the wrong rights
// would be worse than an error.
func (c *creds) enterNested(uid, gid uint32) (bool, error) {
	if uid == c.id.UID && gid == c.id.GID {
		groups, err := threadcred.Groups()
		slices.Sort(groups)
		if err == nil && slices.Equal(groups, c.groups) {
			return true, nil
		}
	}
	runtime.UnlockOSThread()
	return false, &IdentityError{Identity: c.id, Err: unix.EBUSY}
}

// leave undoes enter. A thread that cannot be brought back stays locked to its
// goroutine: it is then never used for another one and ends with it.
func (f *FS) leave(nested bool) {
	if !nested && !f.creds.restore() {
		f.sys.log.Error("thread keeps a user's rights until its goroutine ends", "uid", f.id.UID)
		return
	}
	runtime.UnlockOSThread()
}

// restore brings the thread back to the process's own rights and reports
// whether it has them. The capabilities come first: without them the rest is
// not permitted.
func (c *creds) restore() bool {
	own := c.own
	if !c.keepCaps && threadcred.SetCaps(&own.caps) != 0 {
		return false
	}
	setThreadFSUID(own.uid)
	setThreadFSGID(own.gid)
	if !c.keepCaps && own.uid != 0 {
		// Leaving uid 0 clears file-system capabilities that a process with
		// another uid may have had.
		if threadcred.SetCaps(&own.caps) != 0 {
			return false
		}
	}
	if !c.sameList && threadcred.SetGroups(own.groups) != 0 {
		return false
	}
	uid, gid := fsIDs()
	return uid == own.uid && gid == own.gid
}

// fsIDs returns the calling thread's file-system ids: setfsuid of an invalid
// id changes nothing and returns the present one.
func fsIDs() (uid, gid uint32) {
	return setThreadFSUID(^uint32(0)), setThreadFSGID(^uint32(0))
}

func setThreadFSUID(uid uint32) (previous uint32) {
	r, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	return uint32(r)
}

func setThreadFSGID(gid uint32) (previous uint32) {
	r, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	return uint32(r)
}
