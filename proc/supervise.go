//go:build linux

package proc

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// drainBound is how many times Config.Drain an exit waits for output that
// does not stop.
const drainBound = 10

// supervise sees a process through to its end. It is the process's one
// goroutine besides the pumps of its output, and sleeps in the poller.
func (p *Process) supervise() {
	t := p.table
	defer t.wg.Done()
	timedOut, killAt := p.awaitExit()
	exit := p.reap()
	exit.TimedOut = timedOut
	if p.cg != nil {
		exit.OOM = p.cg.oom()
	}
	exit.OutputHeld = !p.drain()
	// Whoever is woken by a channel finds the table's counts up to date.
	t.exited()
	p.publish(exit)
	p.linger(timedOut, killAt)
	p.release()
	t.retire(p)
	close(p.finished)
}

// awaitExit waits until the process is a zombie, and ends it when its time is
// up: the pidfd's read deadline is the timer.
func (p *Process) awaitExit() (timedOut bool, killAt time.Time) {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		p.table.log.Error("wait for process", "id", p.id, "error", err)
		return false, killAt
	}
	if p.spec.Timeout > 0 {
		_ = p.pidfd.SetReadDeadline(p.started.Add(p.spec.Timeout))
	}
	for !p.abandoned() {
		err := conn.Read(func(fd uintptr) bool { return exited(int(fd)) })
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded), p.ended():
			return timedOut, killAt
		case !timedOut:
			timedOut = true
			killAt = time.Now().Add(p.grace())
			_ = p.Signal(syscall.SIGTERM, ScopeTree)
			_ = p.pidfd.SetReadDeadline(killAt)
		default:
			_ = p.Signal(syscall.SIGKILL, ScopeTree)
			_ = p.pidfd.SetReadDeadline(time.Time{})
		}
	}
	return timedOut, killAt
}

// ended reports whether the process is a zombie. A wait that begins behind its
// deadline has not looked.
func (p *Process) ended() (ended bool) {
	_ = control(p.pidfd, func(fd int) error {
		ended = exited(fd)
		return nil
	})
	return ended
}

// reap takes the exit status from the kernel.
func (p *Process) reap() Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ws syscall.WaitStatus
	var ru syscall.Rusage
	pid, err := syscall.Wait4(p.pid, &ws, syscall.WNOHANG, &ru)
	for err == syscall.EINTR {
		pid, err = syscall.Wait4(p.pid, &ws, syscall.WNOHANG, &ru)
	}
	if pid == 0 && err == nil {
		err = errAbandoned
	}
	p.reaped = true
	e := Exit{
		UserTime:   time.Duration(ru.Utime.Nano()),
		SystemTime: time.Duration(ru.Stime.Nano()),
		MaxRSS:     ru.Maxrss << 10, // the kernel counts KiB
		Started:    p.started,
		Ended:      time.Now(),
	}
	switch {
	case err != nil:
		// It cannot even be killed, or somebody else in this program has
		// waited for our child.
		p.table.log.Error("exit status lost", "id", p.id, "error", err)
		e.Code = -1
	case ws.Signaled():
		e.Signal, e.CoreDumped = ws.Signal(), ws.CoreDump()
	default:
		e.Code = ws.ExitStatus()
	}
	return e
}

// drain waits for the end of the output. Where something of the tree holds the
// pipe it waits until no more comes for Config.Drain, and never longer than
// ten times that; false says so.
func (p *Process) drain() bool {
	select {
	case <-p.out.drained:
		return true
	default:
	}
	p.out.exiting(p.io.slack())
	tick := time.NewTicker(p.table.cfg.Drain)
	defer tick.Stop()
	before := p.out.written()
	for ticks := 0; ticks < drainBound; {
		select {
		case <-p.out.drained:
			return true
		case <-tick.C:
		}
		now := p.out.written()
		if now == before && (p.io.unread() || p.io.hungUp()) && !p.out.stalled() {
			// On a busy machine a pump may be long in having its turn. What
			// was printed before the exit, and the end of it, are not held by
			// anybody.
			continue
		}
		// Silence alone says little: a child that the agent just forked for
		// something else has copies of its descriptors until it executes.
		if now == before && !p.io.hungUp() && p.treeAlive() {
			return false
		}
		before = now
		ticks++
	}
	return false
}

// treeAlive reports whether anything of the tree is alive.
func (p *Process) treeAlive() bool {
	if p.cg != nil {
		return p.cg.populated()
	}
	return !p.sessionReused() && len(sessionMembers(p.pid)) > 0
}

func (p *Process) publish(e Exit) {
	p.mu.Lock()
	p.exit = &e
	p.mu.Unlock()
	p.out.publish(e)
	close(p.done)
}

// linger waits until nothing of the tree is alive and the output has ended.
// What is left of a tree whose time was up is killed when the grace is over;
// without a cgroup there is something left if it holds the output.
func (p *Process) linger(timedOut bool, killAt time.Time) {
	if p.cg != nil && p.cg.remove() != nil {
		p.awaitTree(timedOut, killAt)
		if err := p.cg.removeSoon(); err != nil {
			p.table.log.Warn("remove cgroup", "id", p.id, "error", err)
		}
	}
	if p.cg == nil && timedOut {
		timer := time.NewTimer(time.Until(killAt))
		defer timer.Stop()
		select {
		case <-p.out.drained:
		case <-timer.C:
			_ = p.Signal(syscall.SIGKILL, ScopeTree)
		}
	}
	<-p.out.drained
}

// awaitTree waits until the cgroup is empty or the table closes.
func (p *Process) awaitTree(timedOut bool, killAt time.Time) {
	events, err := p.cg.watch()
	if err != nil {
		return // it is gone
	}
	defer func() { _ = events.Close() }()
	if timedOut {
		_ = events.SetReadDeadline(killAt)
	}
	p.mu.Lock()
	p.events = events
	p.mu.Unlock()
	if p.abandoned() {
		return
	}
	err = awaitEmpty(events)
	if timedOut && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = p.cg.kill()
		_ = events.SetReadDeadline(time.Time{})
		if p.abandoned() {
			return
		}
		err = awaitEmpty(events)
	}
	if err != nil {
		p.table.log.Warn("wait for process tree", "id", p.id, "error", err)
	}
}

// release closes the agent's descriptors.
func (p *Process) release() {
	p.inMu.Lock()
	p.inClosed = true
	p.inMu.Unlock()
	p.io.closeParent()
	_ = p.pidfd.Close()
}

// destroy kills the tree and, if something survives until the deadline,
// abandons it, so that no goroutine waits for it.
func (p *Process) destroy(deadline time.Time) {
	_ = p.Signal(syscall.SIGKILL, ScopeTree)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-p.finished:
		return
	case <-timer.C:
	}
	p.abandon()
	<-p.finished
}

// errAbandoned: the table was closed, and the process would not die.
var errAbandoned = errors.New("process does not end")

// abandon makes the supervisor and the pumps stop waiting. The order matters:
// whoever sets a deadline of its own looks at quit afterwards.
func (p *Process) abandon() {
	p.quitOnce.Do(func() {
		close(p.quit)
		close(p.out.abort)
		p.mu.Lock()
		files := []*os.File{p.pidfd, p.io.stdout, p.io.stderr, p.io.tty, p.events}
		p.mu.Unlock()
		for _, f := range files {
			if f != nil {
				_ = f.SetReadDeadline(time.Unix(1, 0))
			}
		}
	})
}

func (p *Process) abandoned() bool {
	select {
	case <-p.quit:
		return true
	default:
		return false
	}
}
