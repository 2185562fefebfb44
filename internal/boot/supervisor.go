//go:build linux

package boot

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// How soon a dead agent is started again: the delay doubles with each death
// and starts over once an agent has lived for a while. It never gives up,
// since a guest without an agent is lost.
const (
	firstDelay = 50 * time.Millisecond
	lastDelay  = 10 * time.Second
	longLife   = 30 * time.Second
)

// afterKill bounds the wait for processes that SIGKILL does not end, such as
// those in an uninterruptible sleep on a dead file system.
const afterKill = 2 * time.Second

// signalSource is what PID 1 hears. They are apart so that no number of other
// signals can displace the notice of a dead child.
type signalSource struct {
	child chan os.Signal // capacity 1: one notice stands for any number
	other chan os.Signal
}

// watchSignals subscribes to everything. A signal without a subscriber could
// end a Go program, and the end of PID 1 is a kernel panic.
func watchSignals() signalSource {
	src := signalSource{make(chan os.Signal, 1), make(chan os.Signal, 64)}
	signal.Notify(src.child, syscall.SIGCHLD)
	for n := syscall.Signal(1); n < 65; n++ {
		switch n {
		case syscall.SIGCHLD, syscall.SIGKILL, syscall.SIGSTOP:
		case syscall.SIGURG: // the Go runtime preempts goroutines with it
		default:
			signal.Notify(src.other, n)
		}
	}
	return src
}

// supervisor is PID 1's loop. All of it runs on one goroutine.
type supervisor struct {
	log       *slog.Logger
	signals   signalSource
	container bool
	agent     *agent

	pid     int // of the running agent; 0 while there is none
	started time.Time
	delay   time.Duration // before the next start
	restart *time.Timer   // runs while there is no agent
}

// run keeps an agent running until a signal asks for the end.
func (s *supervisor) run() Action {
	s.restart = time.NewTimer(0)
	defer s.restart.Stop()
	for {
		select {
		case <-s.restart.C:
			s.startAgent()
		case <-s.signals.child:
			s.reap()
		case sig := <-s.signals.other:
			number := sig.(syscall.Signal)
			if action, ends := actionFor(number, s.container); ends {
				return action
			}
			if forwarded(number) && s.pid != 0 {
				// It cannot be gone: only reap frees the number.
				_ = syscall.Kill(s.pid, number)
			}
		}
	}
}

func (s *supervisor) startAgent() {
	pid, err := s.agent.start()
	s.started = time.Now()
	if err != nil {
		s.agentGone(err.Error())
		return
	}
	s.pid = pid
	s.log.Info("agent started", "pid", pid)
	// Nothing is under way now, and a kernel that hands out huge pages has given
	// the few hundred kilobytes of our heap 4 MB.
	debug.FreeOSMemory()
}

// reap collects every child that has ended. It reports true when none is left.
func (s *supervisor) reap() (none bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err == syscall.ECHILD:
			return true
		case err != nil || pid == 0:
			return false
		case pid == s.pid:
			s.pid = 0
			s.agentGone(describe(status))
		}
	}
}

// agentGone arranges for the next start.
func (s *supervisor) agentGone(reason string) {
	if time.Since(s.started) >= longLife {
		s.delay = 0
	}
	s.delay = min(max(2*s.delay, firstDelay), lastDelay)
	s.log.Error("agent is gone", "reason", reason, "restart_in", s.delay)
	s.restart.Reset(s.delay)
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("signal: %v", status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// terminate ends every process but this one: SIGTERM, up to grace for them to
// follow it, SIGKILL. With nothing left to end it returns at once.
func (s *supervisor) terminate(grace time.Duration) {
	s.restart.Stop()
	s.pid = 0 // no restart
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, afterKill}} {
		// -1 is everyone but PID 1 itself, in our pid namespace only.
		_ = syscall.Kill(-1, step.signal)
		_ = syscall.Kill(-1, syscall.SIGCONT)
		if s.waitChildren(step.wait) {
			return
		}
	}
	s.log.Warn("some processes survived SIGKILL")
}

// waitChildren returns true once there are no children. Every process that
// loses its parent becomes ours, so that means no processes at all.
func (s *supervisor) waitChildren(limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for !s.reap() {
		select {
		case <-s.signals.child:
		case <-timeout.C:
			return s.reap()
		}
	}
	return true
}
