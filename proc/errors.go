//go:build linux

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// The errors that callers tell apart with errors.Is. They come wrapped with
// what they are about.
var (
	// ErrClosed: the table has been shut down, or the subscription closed.
	ErrClosed = errors.New("closed")
	// ErrNotFound: no process has this id, or its record has expired.
	ErrNotFound = errors.New("no such process")
	// ErrExists: the id is in use by a process with another spec.
	ErrExists = errors.New("process id is in use with another spec")
	// ErrStale: the handle was issued by an earlier boot of the agent.
	ErrStale = errors.New("stale handle")
	// ErrTooMany: [Config.MaxProcesses] are alive already.
	ErrTooMany = errors.New("too many processes")
	// ErrInvalid: the spec, the id or another argument makes no sense,
	// whatever the state of the system. The error is a *SpecError.
	ErrInvalid = errors.New("invalid argument")
	// ErrNoStdin: the process was started without a standard input pipe.
	ErrNoStdin = errors.New("process has no stdin pipe")
	// ErrStdinClosed: its standard input has been closed by
	// [Process.CloseStdin] or because the process ended.
	ErrStdinClosed = errors.New("stdin is closed")
	// ErrNoTTY: a resize was asked for, and the process has no terminal.
	ErrNoTTY = errors.New("process has no terminal")
	// ErrNoPoll: the kernel lets this user wait for no more descriptors. The
	// limit, fs.epoll.max_user_watches, is one for all processes of the user.
	ErrNoPoll = errors.New("no more descriptors can be waited for (fs.epoll.max_user_watches)")
	// ErrNever: none of the awaited conditions can come true any more.
	ErrNever = errors.New("condition can no longer come true")
)

// ErrProcessDone is the error of a signal to a process that has ended. It is
// [os.ErrProcessDone].
var ErrProcessDone = os.ErrProcessDone

// SpecError says which field of a [Spec] (or which argument) is wrong. It
// satisfies errors.Is(err, ErrInvalid) and errors.Is(err, syscall.EINVAL).
type SpecError struct {
	Field  string // "args", "env", "dir", "id", …
	Reason string // for people
}

func (e *SpecError) Error() string { return e.Field + ": " + e.Reason }

// Is makes the error match [ErrInvalid] and EINVAL.
func (e *SpecError) Is(target error) bool {
	return target == ErrInvalid || target == syscall.EINVAL
}

// A Stage is the part of starting a process that went wrong.
type Stage string

// The stages, in the order in which they happen.
const (
	StageUser   Stage = "user"   // resolve the user, or become that user
	StageCwd    Stage = "cwd"    // enter the working directory
	StageLookup Stage = "lookup" // find the program in PATH
	StageCgroup Stage = "cgroup" // create or enter the cgroup, set its limits
	StageRlimit Stage = "rlimit" // rlimits, nice, umask, oom_score_adj
	StageIO     Stage = "io"     // pipes and /dev/null
	StagePTY    Stage = "pty"    // open the terminal or make it the controlling one
	StageExec   Stage = "exec"   // fork or exec itself
)

// StartError is why a process could not be started. Nothing is left behind
// when it is returned. errors.Is sees through it: fs.ErrNotExist for a missing
// program or directory, fs.ErrPermission (or syscall.EACCES) for one that may
// not be used, errors.ErrUnsupported for a limit without its controller,
// passwd.ErrUnknownUser for an unknown user.
type StartError struct {
	Stage Stage
	Path  string // the program, directory, user or controller it is about
	Err   error  // usually a syscall.Errno; never nil
}

func (e *StartError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("start: %s: %v", e.Stage, e.Err)
	}
	return fmt.Sprintf("start: %s %s: %v", e.Stage, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Errno returns the system's error number behind the error, or 0.
func (e *StartError) Errno() syscall.Errno {
	var errno syscall.Errno
	errors.As(e.Err, &errno)
	return errno
}

// ExitCode returns what a shell would exit with: 127 where the program does
// not exist, 126 for everything else.
func (e *StartError) ExitCode() int {
	notFound := e.Stage == StageLookup || e.Stage == StageExec
	if notFound && errors.Is(e.Err, fs.ErrNotExist) {
		return 127
	}
	return 126
}
