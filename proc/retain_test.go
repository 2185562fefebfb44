//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process outside the tree that holds the output does not keep the table
// from closing.
func TestCloseAbandons(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as Close is patient")
	}
	cfg := testConfig()
	cfg.Cgroup = "none"
	tab, err := NewTable(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pidfile := filepath.Join(t.TempDir(), "pid")
	p := mustStart(t, tab, Spec{Script: "setsid sh -c 'echo $$ >" + pidfile + ".tmp; mv " + pidfile + ".tmp " + pidfile + "; exec sleep 1000' & wait", Shell: "/bin/sh"})
	var pid int
	eventually(t, "it has escaped", func() bool {
		b, err := os.ReadFile(pidfile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL || !e.OutputHeld {
		t.Errorf("exit %+v", e)
	}
	select {
	case <-p.Finished():
	default:
		t.Error("not finished after close")
	}
}

func TestShutdown(t *testing.T) {
	cfg := testConfig()
	cfg.KillGrace = time.Hour // what ends it is the context
	tab := newTable(t, cfg)
	polite := mustStart(t, tab, Spec{Script: "trap 'exit 4' TERM; echo; while :; do sleep 0.01; done", Shell: "/bin/sh"})
	rude := mustStart(t, tab, Spec{Args: helperArgs(t, "ignore-term")})
	for _, p := range []*Process{polite, rude} {
		eventually(t, "it is ready", func() bool { return p.Info().Stdout.End > 0 })
	}
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		defer cancel()
		<-polite.Done()
	}()
	if err := tab.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if e := mustWait(t, polite); e.Code != 4 {
		t.Errorf("polite: %+v", e)
	}
	if e := mustWait(t, rude); e.Signal != syscall.SIGKILL {
		t.Errorf("rude: %+v", e)
	}
	if _, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("start: %v", err)
	}
	if err := tab.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestRetention(t *testing.T) {
	cfg := testConfig()
	cfg.MaxRetained = 3
	tab := newTable(t, cfg)
	var procs []*Process
	for range 5 {
		p := mustStart(t, tab, Spec{Args: []string{"echo", "x"}})
		<-p.Finished()
		procs = append(procs, p)
	}
	eventually(t, "the records are retired", func() bool { return tab.Stats().Running+tab.Stats().Lingering == 0 && tab.Stats().Retained == 3 })
	if _, err := tab.Get(procs[0].ID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := tab.Get(procs[4].ID()); err != nil {
		t.Errorf("the newest: %v", err)
	}
	if got := tab.Stats().RingBytes; got != 3*minRing {
		t.Errorf("%d bytes of rings", got)
	}
	if err := tab.Remove(procs[4].ID()); err != nil {
		t.Error(err)
	}
	if _, err := tab.Get(procs[4].ID()); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	running := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	if err := tab.Remove(running.ID()); !errors.Is(err, ErrInvalid) {
		t.Errorf("remove a running one: %v", err)
	}

	cfg = testConfig()
	cfg.Retention = 50 * time.Millisecond
	tab = newTable(t, cfg)
	for range 3 {
		<-mustStart(t, tab, Spec{Args: []string{"echo", "x"}}).Finished()
	}
	eventually(t, "the records expire", func() bool {
		s := tab.Stats()
		return s.Retained == 0 && s.RingBytes == 0 && len(tab.List()) == 0
	})
	cfg = testConfig()
	cfg.Retention = -1
	tab = newTable(t, cfg)
	p := mustStart(t, tab, Spec{Args: []string{"echo", "x"}})
	<-p.Finished()
	eventually(t, "nothing is retained", func() bool { return len(tab.List()) == 0 })
	if e := mustWait(t, p); !e.Success() {
		t.Errorf("exit %+v", e)
	}
}

func TestTooMany(t *testing.T) {
	cfg := testConfig()
	cfg.MaxProcesses = 2
	tab := newTable(t, cfg)
	one := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	if _, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if err := one.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		_, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}})
		return err == nil
	})
}

// What an agent that died left in the hierarchy is ended by the next one.
func TestSweep(t *testing.T) {
	needRoot(t)
	tab := newTable(t, testConfig())
	needCgroup(t, tab)
	home := filepath.Join(filepath.Dir(tab.Capabilities().Cgroup), "sweep-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the tables below have been closed
		if err := os.Remove(home); err != nil {
			t.Error(err)
		}
	})
	cfg := testConfig()
	cfg.Cgroup = home
	dead, err := NewTable(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := mustStart(t, dead, Spec{Args: []string{"sleep", "1000"}})

	cfg = testConfig()
	cfg.Cgroup = home
	second := newTable(t, cfg)
	if !alive(p.PID()) {
		t.Fatal("a living agent's process was swept away")
	}
	_ = second
	_ = dead.tree.lock.Close() // as if the agent had died
	cfg = testConfig()
	cfg.Cgroup = home
	newTable(t, cfg)
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", e)
	}
	_ = dead.Close()
	if _, err := os.Stat(p.cg.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}
