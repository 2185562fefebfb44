//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launch starts what spec says, from the plan to the running process. When it
// fails nothing is left.
func (t *Table) launch(ctx context.Context, s *Spec, attach func(*output) error) (*Process, error) {
	pl, err := t.plan(s)
	if err != nil {
		return nil, err
	}
	p := &Process{
		table: t, id: s.ID, spec: s, argv: pl.argv, dir: pl.dir, identity: pl.identity,
		inLock: make(chan struct{}, 1), quit: make(chan struct{}),
		done: make(chan struct{}), finished: make(chan struct{}),
	}
	if p.cg, err = t.cgroupFor(s); err != nil {
		return nil, err
	}
	if p.io, err = openStdio(pl); err == nil {
		err = p.begin(ctx, pl, attach)
		p.dir = pl.dir // the fork may have had to go without the home directory
		p.io.closeChild()
	}
	if err != nil {
		p.undo()
		return nil, err
	}
	if p.io.tty != nil {
		p.out.start(p.io.tty)
	} else {
		p.out.start(p.io.stdout, p.io.stderr)
	}
	return p, nil
}

// undo takes back what launch made.
func (p *Process) undo() {
	if p.io != nil {
		p.io.closeParent()
	}
	if p.out != nil {
		p.out.detach()
	}
	if p.cg != nil {
		if err := p.cg.removeSoon(); err != nil {
			p.table.log.Warn("remove cgroup", "id", p.id, "error", err)
		}
	}
}

// cgroupFor makes the cgroup, or returns nil where there is no hierarchy.
func (t *Table) cgroupFor(s *Spec) (*cgroup, error) {
	if h := t.hierarchy(); h != nil {
		return h.create(s.ID, s.Limits)
	}
	if settings := s.Limits.settings(); len(settings) > 0 {
		return nil, unsupportedLimit(settings[0].controller)
	}
	return nil, nil
}

// begin prepares the output, so that a subscriber is there before the first
// byte, and forks.
func (p *Process) begin(ctx context.Context, pl *plan, attach func(*output) error) error {
	t := p.table
	size := t.cfg.RingSize
	if p.spec.RingSize > 0 {
		size = p.spec.RingSize
	}
	p.out = newOutput(t.budget, size)
	if p.io.stdout != nil || p.io.tty != nil {
		p.out.open(Stdout)
	}
	if p.io.stderr != nil {
		p.out.open(Stderr)
	}
	if attach != nil {
		if err := attach(p.out); err != nil {
			return err
		}
	}
	select {
	case t.forks <- struct{}{}:
		defer func() { <-t.forks }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f := &fork{plan: pl, io: p.io, cg: p.cg, exec: t.forkExec, shim: t.cfg.Shim, noSetgroups: t.inherit.noSetgroups}
	var err error
	shim := pl.needShim() || t.inherit.needShim()
	if shim {
		err = retryBusy(func() error {
			p.pid, p.pidfd, err = f.throughShim(ctx)
			return err
		})
	} else {
		p.pid, p.pidfd, err = f.direct()
	}
	p.started = time.Now()
	if err == nil {
		if !shim {
			t.inherit.settlePriorities(p.pid)
		}
		if !pl.limitsFiles() {
			t.inherit.settleFiles(p.pid)
		}
	}
	return err
}

// needShim reports whether spec asks for what only the process itself can do.
func (p *plan) needShim() bool {
	s := p.spec
	return len(s.Rlimits) > 0 || s.Nice != 0 || s.OOMScoreAdj != 0 || s.Umask != nil
}

// limitsFiles reports whether spec has a limit on descriptors of its own.
func (p *plan) limitsFiles() bool {
	return slices.ContainsFunc(p.spec.Rlimits, func(l Rlimit) bool { return l.Resource == unix.RLIMIT_NOFILE })
}

// A fork is one attempt to start a process.
type fork struct {
	plan        *plan
	io          *stdio
	cg          *cgroup
	exec        func(program string, argv []string, attr *syscall.ProcAttr) (pid, pidfd int, err error)
	shim        []string
	noSetgroups bool
}

// direct forks and executes the program itself.
func (f *fork) direct() (pid int, pidfd *os.File, err error) {
	attr, done, err := f.attr()
	if err != nil {
		return 0, nil, err
	}
	defer done()
	attr.Dir = f.plan.dir
	attr.Env = f.plan.env
	attr.Sys.Credential = f.credential()
	fd := -1
	path := ""
	err = tryPrograms(f.plan.programs, func(program string) error {
		path = program
		pid, fd, err = f.exec(program, f.plan.argv, attr)
		return err
	})
	if err != nil && f.plan.spec.Dir == "" && attr.Dir != "/" && f.blame(attr, err) == StageCwd {
		// Nobody asked for the home directory by name.
		f.plan.dir = "/"
		return f.direct()
	}
	if err != nil {
		return 0, nil, f.startError(attr, path, err)
	}
	if pidfd, err = newPidfd(fd); err != nil {
		discard(pid)
		return 0, nil, err
	}
	return pid, pidfd, nil
}

// attr is what direct and throughShim have in common. done releases it.
func (f *fork) attr() (attr *syscall.ProcAttr, done func(), err error) {
	attr = &syscall.ProcAttr{
		Files: f.io.child[:],
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: f.io.tty != nil, Ctty: 0},
	}
	if f.cg == nil {
		return attr, func() {}, nil
	}
	fd, err := f.cg.open()
	if err != nil {
		return nil, nil, &StartError{StageCgroup, f.cg.dir, err}
	}
	attr.Sys.UseCgroupFD = true
	attr.Sys.CgroupFD = fd
	return attr, func() { _ = unix.Close(fd) }, nil
}

func (f *fork) credential() *syscall.Credential {
	if f.plan.cred == nil {
		return nil
	}
	cred := *f.plan.cred
	cred.NoSetGroups = f.noSetgroups
	return &cred
}

// newPidfd hands a pidfd to the runtime's poller, which it reaches only in
// non-blocking mode. On an error it is closed.
func newPidfd(fd int) (*os.File, error) {
	if fd < 0 {
		return nil, &StartError{StageExec, "", errors.New("the kernel gave no pidfd")}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, &StartError{StageExec, "pidfd", err}
	}
	file, err := pollable(fd, "pidfd")
	if err != nil {
		return nil, &StartError{StageExec, "pidfd", err}
	}
	return file, nil
}

// tryPrograms tries the candidates of a PATH lookup as execvp(3) does: one
// that is missing or may not be executed gives way to the next.
func tryPrograms(programs []string, exec func(string) error) error {
	var denied error
	var err error
	for _, program := range programs {
		err = retryBusy(func() error { return exec(program) })
		switch {
		case errors.Is(err, syscall.EACCES):
			denied = err
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		default:
			return err
		}
	}
	if denied != nil {
		return denied
	}
	return err
}

// busyTries bounds the retries of retryBusy: about a quarter of a second.
const busyTries = 8

// retryBusy tries again while the program is open for writing (ETXTBSY).
// Whoever wrote it has closed it, but a process that somebody forked in that
// moment holds a copy of the descriptor until it executes.
func retryBusy(exec func() error) error {
	err := exec()
	for try := 0; errors.Is(err, syscall.ETXTBSY) && try < busyTries; try++ {
		time.Sleep(time.Millisecond << try)
		err = exec()
	}
	return err
}

// startError makes the errno of a failed fork or exec a StartError.
func (f *fork) startError(attr *syscall.ProcAttr, path string, err error) error {
	stage := f.blame(attr, err)
	switch stage {
	case StageCwd:
		path = attr.Dir
	case StageUser:
		path = f.plan.spec.User
	case StagePTY:
		path = ""
	case StageCgroup:
		path = f.cg.dir
	}
	return &StartError{stage, path, err}
}

// ambiguous are the errors that more than one stage can cause.
var ambiguous = []syscall.Errno{
	syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.ENOTDIR, syscall.EINVAL,
	syscall.ELOOP, syscall.EBUSY, syscall.EOPNOTSUPP, syscall.ENODEV,
}

// blame finds the stage in which the child failed, of which the fork tells
// only the errno: it forks again with a program that cannot exist, leaving out
// one preparation after the other until nothing but the program is wrong.
func (f *fork) blame(attr *syscall.ProcAttr, err error) Stage {
	var errno syscall.Errno
	if !errors.As(err, &errno) || !slices.Contains(ambiguous, errno) {
		return StageExec
	}
	probe := *attr
	sys := *attr.Sys
	probe.Sys = &sys
	suspects := []struct {
		stage Stage
		clear func()
	}{
		{StageExec, func() {}},
		{StageCwd, func() { probe.Dir = "" }},
		{StageUser, func() { sys.Credential = nil }},
		{StagePTY, func() { sys.Setctty = false }},
		{StageCgroup, func() { sys.UseCgroupFD = false }},
	}
	for _, s := range suspects {
		s.clear()
		if _, perr := syscall.ForkExec(os.DevNull+"/none", []string{"none"}, &probe); errors.Is(perr, syscall.ENOTDIR) {
			return s.stage
		}
	}
	return StageExec
}
