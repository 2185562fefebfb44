//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// agent is how the agent process is started. It is used by one goroutine, the
// one that reaps: syscall.ForkExec waits itself for a child whose exec failed.
type agent struct {
	argv   []string
	env    []string
	cgroup string // directory to start in; "" stays in PID 1's

	stdin *os.File // opened once, and at its end
}

// start returns the pid of a new agent process, in a session of its own.
//
// os.StartProcess is not used: it probes for pidfd support by forking a child,
// whose status the reaper could take.
func (a *agent) start() (pid int, err error) {
	if a.stdin == nil {
		if a.stdin, err = openEmpty(); err != nil {
			return 0, fmt.Errorf("start agent: %w", err)
		}
	}
	attr := &syscall.ProcAttr{
		Env:   a.env,
		Files: []uintptr{a.stdin.Fd(), 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if a.cgroup != "" {
		// Without its cgroup the agent still runs, in PID 1's.
		if dir, err := os.Open(a.cgroup); err == nil {
			defer dir.Close()
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
		}
	}
	// This very binary, even if its file has been replaced or was not found
	// under its name: os.Executable would have needed /proc when we started.
	pid, err = syscall.ForkExec("/proc/self/exe", a.argv, attr)
	if errors.Is(err, fs.ErrNotExist) {
		// There is no /proc: on a root that is read-only and has no place for it.
		// What the kernel started us by is a path.
		pid, err = syscall.ForkExec(a.argv[0], a.argv, attr)
	}
	if err != nil {
		return 0, fmt.Errorf("start agent: %w", err)
	}
	return pid, nil
}

// openEmpty opens a file that has nothing to read: /dev/null, or where there is
// none a pipe that nobody writes to.
func openEmpty() (*os.File, error) {
	null, err := os.Open(os.DevNull)
	if err == nil {
		return null, nil
	}
	r, w, pipeErr := os.Pipe()
	if pipeErr != nil {
		return nil, errors.Join(err, pipeErr)
	}
	return r, w.Close()
}

func (a *agent) close() {
	if a.stdin != nil {
		a.stdin.Close()
	}
}
