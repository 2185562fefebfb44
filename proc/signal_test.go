//go:build linux

package proc

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTimeout(t *testing.T) {
	tab := newTable(t, testConfig())
	e := mustWait(t, mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Timeout: 20 * time.Millisecond}))
	if !e.TimedOut || e.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v", e)
	}
	// One that takes its time to follow has it.
	_, e = timeOut(t, tab, Spec{Script: "trap 'exit 9' TERM; echo ready; sleep 1000 & wait", KillGrace: time.Minute})
	if !e.TimedOut || e.Code != 9 {
		t.Errorf("exit %+v", e)
	}
	// One that ignores TERM, and so do its children.
	p, e := timeOut(t, tab, Spec{Script: "trap '' TERM; echo ready; sleep 1000 & while :; do sleep 1000; done"})
	if !e.TimedOut || e.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", e)
	}
	<-p.Finished()
	// The leader obeys, a child does not: the rest of the tree goes as well.
	p, e = timeOut(t, tab, Spec{Script: "(trap '' TERM; echo ready; while :; do sleep 1000; done) & wait"})
	if !e.TimedOut || e.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v", e)
	}
	<-p.Finished()
}

// A process that has ended before anybody looked has not met its time-out,
// however late it is by then.
func TestTimeoutAfterTheEnd(t *testing.T) {
	tab := newTable(t, testConfig())
	pid, fd, err := tab.forkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{}})
	if err != nil {
		t.Fatal(err)
	}
	defer discard(pid)
	pidfd, err := newPidfd(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pidfd.Close() }()
	eventually(t, "it has ended", func() bool { return exited(fd) })
	p := &Process{table: tab, pid: pid, pidfd: pidfd, spec: &Spec{Timeout: 1}, started: time.Now(), quit: make(chan struct{})}
	if timedOut, _ := p.awaitExit(); timedOut {
		t.Error("it is said to have met its time-out")
	}
}

// timeOut runs a script that prints "ready" into a timeout, which is made
// longer until the script was ready before it.
func timeOut(t *testing.T, tab *Table, s Spec) (*Process, Exit) {
	t.Helper()
	s.Shell, s.KillGrace = "/bin/sh", cmp.Or(s.KillGrace, 20*time.Millisecond)
	for s.Timeout = 50 * time.Millisecond; ; s.Timeout *= 3 {
		p := mustStart(t, tab, s)
		e := mustWait(t, p)
		if p.Info().Stdout.End > 0 || s.Timeout > time.Minute {
			return p, e
		}
	}
}

func TestStop(t *testing.T) {
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p := mustStart(t, tab, Spec{Args: helperArgs(t, "ignore-term")})
	eventually(t, "TERM is ignored", func() bool { return p.Info().Stdout.End > 0 })
	if err := p.Signal(syscall.SIGTERM, ScopeProcess); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(ctx, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL || e.TimedOut {
		t.Errorf("exit %+v", e)
	}
	<-p.Finished()
	if err := p.Stop(ctx, 0); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestSignals(t *testing.T) {
	tab := newTable(t, testConfig())
	const loop = `trap 'echo got' USR1; (trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done) & echo ready; while :; do wait; sleep 0.01; done`
	for scope, want := range map[Scope]string{ScopeProcess: "got\n", ScopeGroup: "child\ngot\n", ScopeTree: "child\ngot\n"} {
		p := mustStart(t, tab, Spec{Script: loop, Shell: "/bin/sh"})
		eventually(t, "both are ready", func() bool { return p.Info().Stdout.End == uint64(len("ready\nready\n")) })
		if err := p.Signal(syscall.SIGUSR1, scope); err != nil {
			t.Fatal(err)
		}
		end := uint64(len("ready\nready\n") + len(want))
		eventually(t, "the signal arrives", func() bool { return p.Info().Stdout.End >= end })
		sub, err := p.Subscribe(SubscribeOptions{Stdout: int64(len("ready\nready\n"))})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		ev, err := sub.Next(testContext(t), buf)
		if got := string(ev.Data); err != nil || len(got) != len(want) || !strings.Contains(got, "got\n") ||
			strings.Contains(got, "child") != strings.Contains(want, "child") {
			t.Errorf("scope %d: %q, %v", scope, got, err)
		}
		_ = sub.Close()
		if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
			t.Fatal(err)
		}
		<-p.Finished()
		for scope := ScopeProcess; scope <= ScopeTree; scope++ {
			if err := p.Signal(syscall.SIGTERM, scope); !errors.Is(err, ErrProcessDone) || !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("scope %d after the end: %v", scope, err)
			}
		}
	}
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	if err := p.Signal(65, ScopeProcess); !errors.Is(err, ErrInvalid) {
		t.Errorf("signal 65: %v", err)
	}
	if err := p.Signal(0, ScopeProcess); err != nil {
		t.Errorf("signal 0: %v", err)
	}
}

// The group can be signalled when its leader has gone.
func TestOrphanedGroup(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "sleep 1000 & exit 0", Shell: "/bin/sh"})
	if e := mustWait(t, p); !e.OutputHeld {
		t.Fatalf("exit %+v", e)
	}
	if err := p.Signal(syscall.SIGTERM, ScopeGroup); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
}

// A daemon escapes from its session and from its parent; the tree has it.
func TestEscape(t *testing.T) {
	tab := newTable(t, testConfig())
	needCgroup(t, tab)
	pidfile := filepath.Join(t.TempDir(), "pid")
	p := mustStart(t, tab, Spec{Args: helperArgs(t, "escape", pidfile)})
	e := mustWait(t, p)
	var daemon int
	eventually(t, "the daemon has started", func() bool {
		b, err := os.ReadFile(pidfile)
		daemon, _ = strconv.Atoi(string(b))
		return err == nil
	})
	if e.OutputHeld {
		t.Errorf("exit %+v", e) // it has no descriptor of ours
	}
	if i := p.Info(); !i.TreeAlive || !alive(daemon) {
		t.Fatalf("%+v, daemon alive: %v", i, alive(daemon))
	}
	if err := p.Signal(syscall.SIGTERM, ScopeProcess); !errors.Is(err, ErrProcessDone) {
		t.Errorf("signal to the process: %v", err)
	}
	if err := p.Signal(syscall.SIGCONT, ScopeTree); err != nil || !alive(daemon) {
		t.Errorf("signal to the tree: %v", err)
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
	eventually(t, "the daemon is dead", func() bool { return !alive(daemon) })
	if _, err := os.Stat(p.cg.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// The same without cgroups: a session is what there is, and Info says so.
func TestSessionTree(t *testing.T) {
	cfg := testConfig()
	cfg.Cgroup = "none"
	tab := newTable(t, cfg)
	if c := tab.Capabilities(); c.Cgroup != "" || c.TreeSignals != "session" || c.CloneIntoCgroup {
		t.Errorf("%+v", c)
	}
	p := mustStart(t, tab, Spec{Script: "for i in 1 2 3; do (sh -c 'sleep 1000; :') & done; echo; exit 3", Shell: "/bin/sh"})
	if e := mustWait(t, p); !e.OutputHeld || e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	if n := len(sessionMembers(p.PID())); n == 0 {
		t.Error("nobody is left in the session")
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
	// What holds no descriptor any more may still be on its way out.
	eventually(t, "all are dead", func() bool { return len(sessionMembers(p.PID())) == 0 })
	_, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}, Limits: Limits{PidsMax: 5}})
	wantStartError(t, err, StageCgroup, errors.ErrUnsupported, 126)
}
