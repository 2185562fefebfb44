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
	shimStatusFD  = 4 // takes shimWords; closed by exec
)

// shimPatience bounds the time from the shim's start to its exec.
const shimPatience = 30 * time.Second

// shimEnv is the shim's environment: where there is one processor, and nobody is
// interrupted, the goroutine that has it keeps it (see lastSteps).
var shimEnv = []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1"}

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
	attr.Env = shimEnv
	attr.Files = append(f.io.child[:len(f.io.child):len(f.io.child)], request.Fd(), uintptr(theirs))
	pid, fd, err := f.exec(f.shim[0], f.shim, attr)
	_ = unix.Close(theirs)
	if err != nil {
		return 0, nil, f.startError(attr, f.shim[0], err)
	}
	if pidfd, err = newPidfd(fd); err == nil {
		err = f.readStatus(ctx, status)
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

// readStatus waits for the exec, which closes the pipe after a last word.
func (f *fork) readStatus(ctx context.Context, status *os.File) error {
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
	word, err := lastShimWord(b)
	if err != nil {
		return &StartError{StageExec, "", err}
	}
	if word.Errno != 0 {
		return word.startError(f.plan)
	}
	return nil
}

// ExecShim is what a program does when it is started as [Config.Shim] says: it
// sets what only the process itself can set, and becomes the program that was
// asked for. It returns only if it could not begin, since the table did not
// start it or something on the way to the limits failed; the caller just exits.
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
	last, err := newLastSteps(&r)
	if err != nil {
		return err
	}
	if step, err := r.prepare(); err != nil {
		errno := unix.EINVAL
		errors.As(err, &errno)
		last.say(step, 0, errno)
		return err
	}
	last.run()
	return nil
}

// prepare does what comes before the limits. With an error it returns the step
// that failed.
func (r *shimRequest) prepare() (shimStep, error) {
	// A handler, unlike SIG_IGN, does not outlive exec.
	signal.Notify(make(chan os.Signal, 1))
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return shimSignals, err
	}
	// 0 restores the default of the thread.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	unix.Umask(r.Umask)
	adj := []byte(strconv.Itoa(r.OOMScoreAdj))
	if err := os.WriteFile("/proc/self/oom_score_adj", adj, 0); err != nil {
		return shimOOM, err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, r.Nice); err != nil {
		return shimNice, err
	}
	// The runtime has raised the limit on descriptors for itself. It takes that
	// back before an exec, whatever comes of it; this one comes to nothing.
	_ = syscall.Exec(os.DevNull+"/none", []string{"none"}, nil)
	return 0, nil
}

func toBytes(s []string) [][]byte {
	b := make([][]byte, len(s))
	for i := range s {
		b[i] = []byte(s[i])
	}
	return b
}
