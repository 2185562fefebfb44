//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Signal sends sig to the process, its group or its tree. It never hits a
// process that merely has the same pid. ErrProcessDone says that nobody was
// there to receive it; a tree may be there although the process has exited.
// Signal 0 only asks.
func (p *Process) Signal(sig syscall.Signal, scope Scope) error {
	if sig < 0 || sig > maxSignals {
		return &SpecError{"signal", fmt.Sprintf("%d is not between 0 and %d", int(sig), maxSignals)}
	}
	var err error
	switch scope {
	case ScopeProcess:
		err = p.signalProcess(sig, 0)
	case ScopeGroup:
		err = p.signalGroup(sig)
	case ScopeTree:
		err = p.signalTree(sig)
	default:
		return &SpecError{"scope", "is not known"}
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, syscall.ENOENT) {
		err = ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("signal process %s: %w", p.id, doneIfClosed(err))
	}
	return nil
}

func (p *Process) signalProcess(sig syscall.Signal, flags int) error {
	return control(p.pidfd, func(fd int) error {
		return unix.PidfdSendSignal(fd, sig, nil, flags)
	})
}

func (p *Process) signalGroup(sig syscall.Signal) error {
	if groupByPidfd() {
		return p.signalProcess(sig, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	}
	// The group's number is safe to use while the process is not reaped.
	p.mu.Lock()
	reaped := p.reaped
	if !reaped {
		defer p.mu.Unlock()
		return syscall.Kill(-p.pid, sig)
	}
	p.mu.Unlock()
	inGroup := func(pid int) bool {
		st, ok := readStat(pid)
		return ok && st.pgrp == p.pid && st.session == p.pid
	}
	if p.cg != nil {
		return p.cg.signal(sig, inGroup)
	}
	return unix.ESRCH
}

// groupByPidfd asks the kernel once whether a pidfd can name a group.
var groupByPidfd = sync.OnceValue(func() bool {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.PidfdSendSignal(fd, 0, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	return !errors.Is(err, unix.EINVAL)
})

func (p *Process) signalTree(sig syscall.Signal) error {
	select {
	case <-p.finished:
		return ErrProcessDone
	default:
	}
	switch {
	case p.cg != nil && sig == syscall.SIGKILL:
		return p.cg.kill()
	case p.cg != nil:
		return p.cg.signal(sig, nil)
	case p.sessionReused():
		return ErrProcessDone
	case sig == syscall.SIGKILL:
		return killSession(p.pid)
	default:
		return signalSession(p.pid, sig)
	}
}

// sessionReused reports whether the session's number has become another's.
// While a process of the session lives its number is not given to anybody; so
// a living process with our pid, after ours was reaped, says that it has been.
func (p *Process) sessionReused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		return false
	}
	_, ok := readStat(p.pid)
	return ok
}

// Stop ends the process and everything it started: TERM to the tree, and KILL
// when grace has passed and something of it is still alive. Grace 0 is the
// spec's or the table's, negative is none. It returns when the exit is
// reported, or with ctx's error, in which case KILL may not have been sent.
// Stopping what has ended is not an error.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if grace == 0 {
		grace = p.grace()
	}
	if grace > 0 {
		if err := p.Signal(syscall.SIGTERM, ScopeTree); err != nil && !errors.Is(err, ErrProcessDone) {
			return err
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.finished:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil && !errors.Is(err, ErrProcessDone) {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// grace is the time between TERM and KILL, never negative.
func (p *Process) grace() time.Duration {
	if p.spec.KillGrace != 0 {
		return max(0, p.spec.KillGrace)
	}
	return max(0, p.table.cfg.KillGrace)
}
