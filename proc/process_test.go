//go:build linux

package proc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStdin(t *testing.T) {
	tab := newTable(t, testConfig())
	const size = 16 << 20
	p, sub, _, err := tab.StartAttached(testContext(t), Spec{Args: []string{"cat"}, Stdin: StdinPipe}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	go func() {
		for off := int64(0); off < size; {
			n, err := p.Write(testContext(t), patternAt(uint64(off), size-off))
			if err != nil {
				t.Errorf("write at %d: %v", off, err)
				return
			}
			off += int64(n)
		}
		if err := p.CloseStdin(); err != nil {
			t.Error(err)
		}
	}()
	got, gaps, err := drainPattern(testContext(t), sub, 0)
	if err != nil || got != size || gaps != 0 {
		t.Errorf("got %d, gaps of %d: %v", got, gaps, err)
	}
	if err := p.CloseStdin(); !errors.Is(err, ErrStdinClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := p.Write(testContext(t), []byte("x")); !errors.Is(err, ErrStdinClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestStdinErrors(t *testing.T) {
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	if _, err := p.Write(ctx, []byte("x")); !errors.Is(err, ErrNoStdin) {
		t.Errorf("without a pipe: %v", err)
	}
	if err := p.CloseStdin(); !errors.Is(err, ErrNoStdin) {
		t.Errorf("close without a pipe: %v", err)
	}

	// The reader closes its end: EPIPE, while the process lives.
	p = mustStart(t, tab, Spec{Script: "exec <&-; echo closed; exec sleep 1000", Shell: "/bin/sh", Stdin: StdinPipe})
	eventually(t, "stdin is closed", func() bool { return p.Info().Stdout.End > 0 })
	if _, err := p.Write(ctx, []byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("nobody reads: %v", err)
	}

	// A full pipe: the context ends the write, and what was written counts.
	p = mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Stdin: StdinPipe})
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	n, err := p.Write(short, make([]byte, 1<<20))
	if !errors.Is(err, context.DeadlineExceeded) || n != 64<<10 {
		t.Errorf("full pipe: %d, %v", n, err)
	}
	// The next write is not affected by that deadline, and a close ends it.
	done := make(chan error)
	go func() {
		_, err := p.Write(ctx, []byte("x"))
		done <- err
	}()
	eventually(t, "the write has begun", func() bool { return len(p.inLock) == 1 })
	if err := p.CloseStdin(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrStdinClosed) {
		t.Errorf("closed while writing: %v", err)
	}
}

func TestIdempotentStart(t *testing.T) {
	tab := newTable(t, testConfig())
	spec := Spec{ID: "job-1.a", Args: []string{"sleep", "1000"}, Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	first := map[*Process]int{}
	count := 0
	for range 30 {
		wg.Go(func() {
			p, started, err := tab.Start(testContext(t), spec)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			first[p]++
			if started {
				count++
			}
		})
	}
	wg.Wait()
	if count != 1 || len(first) != 1 {
		t.Errorf("started %d times, %d processes", count, len(first))
	}
	other := spec
	other.Env = []string{"A=2"}
	if _, _, err := tab.Start(testContext(t), other); !errors.Is(err, ErrExists) {
		t.Errorf("another spec: %v", err)
	}
	// An attach by the same call.
	p, sub, started, err := tab.StartAttached(testContext(t), spec, SubscribeOptions{})
	if err != nil || started || sub == nil {
		t.Fatalf("%v, started %v", err, started)
	}
	_ = sub.Close()
	// Still the same when it has ended.
	if err := p.Signal(syscall.SIGKILL, ScopeProcess); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
	if again, started, err := tab.Start(testContext(t), spec); err != nil || started || again != p {
		t.Errorf("after the end: %v, %v", started, err)
	}
	if spec.Env[0] = "A=3"; p.Spec().Env[0] != "A=1" {
		t.Error("the caller's slice is shared")
	}
	// A start that fails leaves the id free.
	bad := Spec{ID: "bad", Args: []string{"/no/such/program"}}
	if _, _, err := tab.Start(testContext(t), bad); err == nil {
		t.Error("started")
	}
	if p, _, err := tab.Start(testContext(t), Spec{ID: "bad", Args: []string{"true"}}); err != nil || p.ID() != "bad" {
		t.Error(err)
	}
}

func TestHandles(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	if validID("id", p.ID()) != nil || p.Handle() != tab.BootID()+"/"+p.ID() {
		t.Errorf("id %q, handle %q", p.ID(), p.Handle())
	}
	for _, id := range []string{p.ID(), p.Handle()} {
		if got, err := tab.Get(id); err != nil || got != p {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := tab.Get("other/" + p.ID()); !errors.Is(err, ErrStale) {
		t.Errorf("stale: %v", err)
	}
	if _, err := tab.Get("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if l := tab.List(); len(l) != 1 || l[0] != p {
		t.Errorf("list: %v", l)
	}
	other := newTable(t, testConfig())
	if _, err := other.Get(p.Handle()); !errors.Is(err, ErrStale) {
		t.Errorf("in another table: %v", err)
	}
}

func TestInfo(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "echo hello", Shell: "/bin/sh", Dir: "/usr", Labels: map[string]string{"a": "b"}, Env: []string{"SECRET=x"}})
	<-p.Finished()
	i := p.Info()
	if i.State != StateExited || i.PID != p.PID() || i.Dir != "/usr" || i.Labels["a"] != "b" || i.TTY || i.TreeAlive ||
		i.UID != uint32(os.Geteuid()) || i.Script != "echo hello" || i.Exit == nil || !i.Exit.Success() ||
		i.Stdout != (StreamInfo{End: 6, EOF: true}) {
		t.Errorf("%+v", i)
	}
}

func TestWaitHonoursContext(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := tab.Start(ended, Spec{Args: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTimeout(t *testing.T) {
	tab := newTable(t, testConfig())
	e := mustWait(t, mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Timeout: 20 * time.Millisecond}))
	if !e.TimedOut || e.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v", e)
	}
	_, e = timeOut(t, tab, Spec{Script: "trap 'exit 9' TERM; echo ready; sleep 1000 & wait"})
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

// timeOut runs a script that prints "ready" into a timeout, which is made
// longer until the script was ready before it.
func timeOut(t *testing.T, tab *Table, s Spec) (*Process, Exit) {
	t.Helper()
	s.Shell, s.KillGrace = "/bin/sh", 20*time.Millisecond
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
	if alive(daemon) {
		t.Error("the daemon lives")
	}
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
	if left := sessionMembers(p.PID()); len(left) != 0 {
		t.Errorf("%v are alive", left)
	}
	_, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}, Limits: Limits{PidsMax: 5}})
	wantStartError(t, err, StageCgroup, errors.ErrUnsupported, 126)
}

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
	tab := newTable(t, testConfig())
	polite := mustStart(t, tab, Spec{Script: "trap 'exit 4' TERM; echo; while :; do sleep 0.01; done", Shell: "/bin/sh"})
	rude := mustStart(t, tab, Spec{Args: helperArgs(t, "ignore-term")})
	for _, p := range []*Process{polite, rude} {
		eventually(t, "it is ready", func() bool { return p.Info().Stdout.End > 0 })
	}
	ctx, cancel := context.WithTimeout(testContext(t), time.Second)
	defer cancel()
	if err := tab.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
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
	defer func() { _ = os.Remove(home) }()
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

func TestShim(t *testing.T) {
	tab := newTable(t, testConfig())
	umask := uint32(0o027)
	script := `umask; ulimit -n; ulimit -Hn; ulimit -c; cut -d" " -f19 /proc/self/stat; cat /proc/self/oom_score_adj; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd; :`
	nofile, _ := ParseRlimit("RLIMIT_NOFILE")
	core, _ := ParseRlimit("core")
	out, errs, e := run(t, tab, Spec{
		Script: script, Shell: "/bin/sh", Umask: &umask, Nice: 5, OOMScoreAdj: 321,
		Rlimits: []Rlimit{{nofile, 77, 88}, {core, 0, 0}},
	})
	want := "0027\n77\n88\n0\n5\n321\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n"
	if out != want || errs != "" || !e.Success() {
		t.Errorf("got %q, %q, %+v; want %q", out, errs, e, want)
	}
	// A limit that would be too small for the shim itself.
	as, _ := ParseRlimit("as")
	out, _, e = run(t, tab, Spec{Script: "ulimit -v", Shell: "/bin/sh", Rlimits: []Rlimit{{as, 64 << 20, 64 << 20}}})
	if out != "65536\n" || !e.Success() {
		t.Errorf("address space: %q, %+v", out, e)
	}
	// Arguments and environment arrive as bytes, and GODEBUG does not reach the shim.
	out, _, _ = run(t, tab, Spec{Args: []string{"sh", "-c", `printf %s "$0$GOMEMLIMIT"`, "\xff\xfe"}, Umask: &umask,
		Env: []string{"GOMEMLIMIT=nonsense"}})
	if out != "\xff\xfenonsense" {
		t.Errorf("got %q", out)
	}
	cfg := testConfig()
	cfg.Shim = nil
	_, _, err := newTable(t, cfg).Start(testContext(t), Spec{Args: []string{"true"}, Umask: &umask})
	wantStartError(t, err, StageRlimit, errors.ErrUnsupported, 126)
}

func TestShimUser(t *testing.T) {
	needRoot(t)
	tab := newTable(t, testConfig())
	umask := uint32(0)
	out, _, _ := run(t, tab, Spec{Script: "id -u; id -g; id -G; grep CapEff /proc/self/status", Shell: "/bin/sh", User: "12345:123", Umask: &umask, Nice: -3})
	if want := "12345\n123\n123\nCapEff:\t0000000000000000\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// The agent's limit on open files is raised; that of a process is what the
// agent's was.
func TestFileLimit(t *testing.T) {
	needRoot(t)
	before := exec.Command("sh", "-c", "ulimit -n; ulimit -Hn")
	want, err := before.Output()
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.MaxProcesses = 30000
	tab := newTable(t, cfg)
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	if now.Cur < 5*30000 {
		t.Skipf("this system allows no more than %d files", now.Cur)
	}
	got, _, _ := run(t, tab, Spec{Script: "until [ $(ulimit -Hn) -lt 150000 ]; do :; done; ulimit -n; ulimit -Hn", Shell: "/bin/sh"})
	if got != string(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the agent has for itself is not inherited, through the plain path.
func TestNeutralStart(t *testing.T) {
	tab := newTable(t, testConfig())
	out, _, _ := run(t, tab, Spec{Script: `umask; cut -d" " -f19 /proc/self/stat; cat /proc/self/oom_score_adj; grep -E '^Sig(Blk|Ign)' /proc/self/status; cat /proc/self/timerslack_ns 2>/dev/null || echo 50000`, Shell: "/bin/sh"})
	if want := "0022\n0\n0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n50000\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]syscall.Signal{"TERM": 15, "SIGTERM": 15, "kill": 9, "10": 10, "sigusr2": 12} {
		if got, ok := ParseSignal(in); !ok || got != want {
			t.Errorf("%s: %v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "NONE", "0", "-1", "65"} {
		if got, ok := ParseSignal(in); ok {
			t.Errorf("%q: %v", in, got)
		}
	}
	if SignalName(syscall.SIGUSR1) != "USR1" || SignalName(40) != "40" {
		t.Error(SignalName(syscall.SIGUSR1), SignalName(40))
	}
	if _, ok := ParseRlimit("bogus"); ok {
		t.Error("bogus")
	}
	var se *StartError
	err := error(&StartError{StageExec, "/x", syscall.ENOENT})
	if !errors.As(err, &se) || se.Errno() != syscall.ENOENT || !bytes.Contains([]byte(err.Error()), []byte("/x")) {
		t.Error(err)
	}
}
