//go:build linux

package proc

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A shimStep is something that the shim does and that may fail.
type shimStep int32

// The steps, in their order: what root may do first, then the user, then what
// the user must be able to do.
const (
	shimSignals shimStep = iota
	shimOOM
	shimNice
	shimRlimit
	shimGroups
	shimGID
	shimUID
	shimDir
	shimExec
)

// A shimWord is what the shim tells the table: which step failed, or, with an
// Errno of 0, that the exec is next.
type shimWord struct {
	Step  shimStep
	Item  int32 // which of the limits or the programs
	Errno int32
}

const shimWordSize = int(unsafe.Sizeof(shimWord{}))

// errShimDied says that the shim ended before the exec: it was killed, perhaps by
// the kernel for lack of memory.
var errShimDied = errors.New("the process died before it executed the program")

// lastShimWord returns the last word of a shim that has said b.
func lastShimWord(b []byte) (shimWord, error) {
	var w shimWord
	if len(b) == 0 || len(b)%shimWordSize != 0 {
		return w, errShimDied
	}
	_, err := binary.Decode(b[len(b)-shimWordSize:], binary.NativeEndian, &w)
	return w, err
}

// startError is the error of a word that tells of a failure, by a shim that
// was to do what pl says.
func (w shimWord) startError(pl *plan) error {
	errno := syscall.Errno(w.Errno)
	switch w.Step {
	case shimSignals:
		return &StartError{StageRlimit, "signal mask", errno}
	case shimOOM:
		return &StartError{StageRlimit, "oom_score_adj", errno}
	case shimNice:
		return &StartError{StageRlimit, "nice", errno}
	case shimRlimit:
		return &StartError{StageRlimit, RlimitName(pl.spec.Rlimits[w.Item].Resource), errno}
	case shimGroups:
		return &StartError{StageUser, "setgroups", errno}
	case shimGID:
		return &StartError{StageUser, "setgid", errno}
	case shimUID:
		return &StartError{StageUser, "setuid", errno}
	case shimDir:
		return &StartError{StageCwd, pl.dir, errno}
	default:
		return &StartError{StageExec, pl.programs[w.Item], errno}
	}
}

// lastSteps is the end of the shim: the limits, the user, the directory
// and the exec.
//
// The limits are for the program, and the Go runtime crashes under some of
// them: where it is refused a thread (RLIMIT_NPROC) or memory (RLIMIT_AS). So
// from the first limit on the runtime must not run at all. Everything that run
// needs is made before. It makes nothing but raw system calls, of which the
// runtime does not hear, it cannot be preempted (nosplit, and shimEnv), and
// nothing runs beside it (shimEnv). It changes the ids of its own thread only,
// which is the one that exec leaves: all of the shim's threads would count
// against the new user's limit on processes.
type lastSteps struct {
	limits   []resourceLimit
	setUser  bool
	uid, gid uint32
	groups   []uint32 // nil: leave them
	dir      *byte
	root     *byte // where to go if dir cannot be entered, or nil
	programs []*byte
	argv     []*byte // with a nil at the end, as env
	env      []*byte
	word     shimWord // room for what is said
}

// A resourceLimit is an argument of prlimit(2).
type resourceLimit struct {
	resource int
	value    unix.Rlimit
}

// newLastSteps makes what r asks for ready. It fails where there is a NUL in
// a string, which the table has seen to.
func newLastSteps(r *shimRequest) (*lastSteps, error) {
	l := &lastSteps{gid: r.GID, groups: r.Groups}
	for _, lim := range r.Rlimits {
		l.limits = append(l.limits, resourceLimit{lim.Resource, unix.Rlimit{Cur: lim.Soft, Max: lim.Hard}})
	}
	if r.UID != nil {
		l.setUser, l.uid = true, *r.UID
	}
	var err error
	pointer := func(b []byte) *byte {
		p, perr := unix.BytePtrFromString(string(b))
		err = errors.Join(err, perr)
		return p
	}
	pointers := func(bs [][]byte) []*byte {
		ps := make([]*byte, 0, len(bs)+1)
		for _, b := range bs {
			ps = append(ps, pointer(b))
		}
		return ps
	}
	l.dir = pointer(r.Dir)
	if r.DirOptional {
		l.root = pointer([]byte("/"))
	}
	l.programs = pointers(r.Programs)
	l.argv = append(pointers(r.Args), nil)
	l.env = append(pointers(r.Env), nil)
	return l, err
}

// say writes a word to the table.
//
//go:nosplit
//go:norace
func (l *lastSteps) say(step shimStep, item int, errno syscall.Errno) {
	l.word = shimWord{step, int32(item), int32(errno)}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, shimStatusFD,
		uintptr(unsafe.Pointer(&l.word)), uintptr(shimWordSize))
}

// fail ends the process.
//
//go:nosplit
//go:norace
func (l *lastSteps) fail(step shimStep, item int, errno syscall.Errno) {
	l.say(step, item, errno)
	_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
}

// run does not return.
//
//go:nosplit
//go:norace
func (l *lastSteps) run() {
	for i := range l.limits {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, uintptr(l.limits[i].resource),
			uintptr(unsafe.Pointer(&l.limits[i].value)), 0, 0, 0)
		if errno != 0 {
			l.fail(shimRlimit, i, errno)
		}
	}
	if l.setUser {
		l.become()
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(l.dir)), 0, 0)
	if errno != 0 && l.root != nil {
		_, _, errno = syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(l.root)), 0, 0)
	}
	if errno != 0 {
		l.fail(shimDir, 0, errno)
	}
	// Without this word an end of the pipe is the end of the shim.
	l.say(shimExec, 0, 0)
	item, errno := l.exec()
	l.fail(shimExec, item, errno)
}

// become changes the user of this thread.
//
//go:nosplit
//go:norace
func (l *lastSteps) become() {
	if l.groups != nil {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(l.groups)),
			uintptr(unsafe.Pointer(unsafe.SliceData(l.groups))), 0)
		if errno != 0 {
			l.fail(shimGroups, 0, errno)
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETGID, uintptr(l.gid), 0, 0); errno != 0 {
		l.fail(shimGID, 0, errno)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETUID, uintptr(l.uid), 0, 0); errno != 0 {
		l.fail(shimUID, 0, errno)
	}
}

// exec tries the programs as tryPrograms does, except that it does not retry one
// that is busy: who started the shim does that. It returns which program failed,
// and why.
//
//go:nosplit
//go:norace
func (l *lastSteps) exec() (item int, errno syscall.Errno) {
	denied := -1
	for i := range l.programs {
		item = i
		_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(l.programs[i])),
			uintptr(unsafe.Pointer(&l.argv[0])), uintptr(unsafe.Pointer(&l.env[0])))
		switch errno {
		case unix.EACCES:
			denied = i
		case unix.ENOENT, unix.ENOTDIR:
		default:
			return item, errno
		}
	}
	if denied >= 0 {
		return denied, unix.EACCES
	}
	return item, errno
}
