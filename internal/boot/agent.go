//go:build linux

package boot

import (
	"fmt"
	"os"
	"syscall"
)

// agent is how the agent process is started. It is used by one goroutine, the
// one that reaps: syscall.ForkExec waits itself for a child whose exec failed.
type agent struct {
	argv   []string
	env    []string
	cgroup string // directory to start in; "" stays in PID 1's

	null *os.File // stdin, opened once
}

// start returns the pid of a new agent process, in a session of its own.
//
// os.StartProcess is not used: it probes for pidfd support by forking a child,
// whose status the reaper could take.
func (a *agent) start() (pid int, err error) {
	if a.null == nil {
		if a.null, err = os.Open(os.DevNull); err != nil {
			return 0, fmt.Errorf("start agent: %w", err)
		}
	}
	attr := &syscall.ProcAttr{
		Env:   a.env,
		Files: []uintptr{a.null.Fd(), 1, 2},
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
	if err != nil {
		return 0, fmt.Errorf("start agent: %w", err)
	}
	return pid, nil
}

func (a *agent) close() {
	if a.null != nil {
		a.null.Close()
	}
}
