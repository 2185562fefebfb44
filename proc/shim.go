//go:build linux

package proc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The shim's descriptors besides 0, 1 and 2.
const (
	shimRequestFD = 3 // a memfd with a shimRequest
	shimStatusFD  = 4 // takes a shimFailure; closed by exec
)

// shimPatience bounds the time from the shim's start to its exec.
const shimPatience = 30 * time.Second

// A shimRequest is everything that the shim has to do. Strings travel as
// bytes, since arguments and paths need not be UTF-8. It goes through a memfd
// rather than through arguments and environment: those are public or, like
// GODEBUG, would change how the shim itself runs.
type shimRequest struct {
	Programs    [][]byte
	Args        [][]byte
	Env         [][]byte
	Dir         []byte
	DirOptional bool // "/" will do
	UID         *uint32
	GID         uint32
	Groups      []uint32 // nil: leave them
	Rlimits     []Rlimit
	Nice        int
	OOMScoreAdj int
	Umask       int
}

// A shimFailure says what a StartError says.
type shimFailure struct {
	Stage Stage
	Path  []byte
	Errno syscall.Errno
}

// throughShim starts the shim, which becomes the program. It returns when
// that has happened or failed.
func (f *fork) throughShim(ctx context.Context) (pid int, pidfd *os.File, err error) {
	if len(f.shim) == 0 {
		return 0, nil, &StartError{StageRlimit, "", errors.ErrUnsupported}
	}
	request, err := f.sendRequest()
	if err != nil {
		return 0, nil, &StartError{StageRlimit, "", err}
	}
	defer func() { _ = request.Close() }()
	status, theirs, err := pipe(false)
	if err != nil {
		return 0, nil, &StartError{StageIO, "", err}
	}
	defer func() { _ = status.Close() }()
	attr, done, err := f.attr()
	if err != nil {
		_ = unix.Close(theirs)
		return 0, nil, err
	}
	defer done()
	attr.Dir = "/"
	attr.Env = []string{}
	attr.Files = append(f.io.child[:len(f.io.child):len(f.io.child)], request.Fd(), uintptr(theirs))
	pid, fd, err := f.exec(f.shim[0], f.shim, attr)
	_ = unix.Close(theirs)
	if err != nil {
		return 0, nil, f.startError(attr, f.shim[0], err)
	}
	if pidfd, err = newPidfd(fd); err == nil {
		err = readStatus(ctx, status)
	}
	if err != nil {
		discard(pid)
		if pidfd != nil {
			_ = pidfd.Close()
		}
		return 0, nil, err
	}
	return pid, pidfd, nil
}

// sendRequest puts the request into a file of which no name exists.
func (f *fork) sendRequest() (*os.File, error) {
	pl := f.plan
	r := shimRequest{
		Programs: toBytes(pl.programs), Args: toBytes(pl.argv), Env: toBytes(pl.env),
		Dir: []byte(pl.dir), DirOptional: pl.spec.Dir == "",
		Rlimits: pl.spec.Rlimits, Nice: pl.spec.Nice, OOMScoreAdj: pl.spec.OOMScoreAdj,
		Umask: defaultUmask,
	}
	if pl.spec.Umask != nil {
		r.Umask = int(*pl.spec.Umask)
	}
	if c := f.credential(); c != nil {
		r.UID, r.GID = &c.Uid, c.Gid
		if !c.NoSetGroups {
			r.Groups = append([]uint32{}, c.Groups...)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "request")
	if _, err = file.Write(b); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// readStatus waits for the exec, which closes the pipe without a word.
func readStatus(ctx context.Context, status *os.File) error {
	_ = status.SetReadDeadline(time.Now().Add(shimPatience))
	stop := context.AfterFunc(ctx, func() { _ = status.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := io.ReadAll(status)
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	if err != nil {
		return &StartError{StageExec, "", errnoOf(err)}
	}
	if len(b) == 0 {
		return nil
	}
	var fail shimFailure
	if err := json.Unmarshal(b, &fail); err != nil {
		return &StartError{StageExec, "", err}
	}
	return &StartError{fail.Stage, string(fail.Path), fail.Errno}
}

// ExecShim is what a program does when it is started as [Config.Shim] says: it
// sets what only the process itself can set, and becomes the program that was
// asked for. It returns only if the table did not start it, or if that
// failed; the table has been told why then, and the caller just exits.
func ExecShim() error {
	// Nice and the signal mask belong to the thread, and the thread that
	// executes is the one that stays.
	runtime.LockOSThread()
	unix.CloseOnExec(shimRequestFD)
	unix.CloseOnExec(shimStatusFD)
	request := os.NewFile(shimRequestFD, "request")
	var r shimRequest
	if err := json.NewDecoder(request).Decode(&r); err != nil {
		return err
	}
	_ = request.Close()
	err := r.become()
	fail := shimFailure{Stage: StageExec}
	var serr *StartError
	if errors.As(err, &serr) {
		fail = shimFailure{serr.Stage, []byte(serr.Path), serr.Errno()}
	}
	b, _ := json.Marshal(fail)
	_, _ = unix.Write(shimStatusFD, b)
	return err
}

// become does everything up to exec, in the order which the rights want: what
// root may do first, then the user, then what the user must be able to do.
func (r *shimRequest) become() error {
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.setUser(); err != nil {
		return err
	}
	dir := string(r.Dir)
	err := unix.Chdir(dir)
	if err != nil && r.DirOptional {
		err = unix.Chdir("/")
	}
	if err != nil {
		return &StartError{StageCwd, dir, err}
	}
	path := ""
	args, env := toStrings(r.Args), toStrings(r.Env)
	err = tryPrograms(toStrings(r.Programs), func(program string) error {
		path = program
		return syscall.Exec(program, args, env)
	})
	return &StartError{StageExec, path, err}
}

func (r *shimRequest) prepare() error {
	// A handler, unlike SIG_IGN, does not outlive exec.
	signal.Notify(make(chan os.Signal, 1))
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return &StartError{StageRlimit, "signal mask", err}
	}
	// 0 restores the default of the thread.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	unix.Umask(r.Umask)
	adj := []byte(strconv.Itoa(r.OOMScoreAdj))
	if err := os.WriteFile("/proc/self/oom_score_adj", adj, 0); err != nil {
		return &StartError{StageRlimit, "oom_score_adj", errnoOf(err)}
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, r.Nice); err != nil {
		return &StartError{StageRlimit, "nice", err}
	}
	for _, l := range r.Rlimits {
		lim := syscall.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := syscall.Setrlimit(l.Resource, &lim); err != nil {
			return &StartError{StageRlimit, rlimitName(l.Resource), err}
		}
	}
	return nil
}

func (r *shimRequest) setUser() error {
	if r.UID == nil {
		return nil
	}
	if r.Groups != nil {
		groups := make([]int, len(r.Groups))
		for i, g := range r.Groups {
			groups[i] = int(g)
		}
		if err := syscall.Setgroups(groups); err != nil {
			return &StartError{StageUser, "setgroups", err}
		}
	}
	if err := syscall.Setgid(int(r.GID)); err != nil {
		return &StartError{StageUser, "setgid", err}
	}
	if err := syscall.Setuid(int(*r.UID)); err != nil {
		return &StartError{StageUser, "setuid", err}
	}
	return nil
}

func toBytes(s []string) [][]byte {
	b := make([][]byte, len(s))
	for i := range s {
		b[i] = []byte(s[i])
	}
	return b
}

func toStrings(b [][]byte) []string {
	s := make([]string, len(b))
	for i := range b {
		s[i] = string(b[i])
	}
	return s
}
