//go:build linux

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needController skips where limits cannot be set. The microVM has them.
func needController(t testing.TB, tab *Table, name string) {
	t.Helper()
	if !slices.Contains(tab.Capabilities().Controllers, name) {
		t.Skipf("needs the %s controller of cgroup2", name)
	}
}

// A limit without its controller is refused by name, never ignored.
func TestLimitUnsupported(t *testing.T) {
	tab := newTable(t, testConfig())
	zero := int64(0)
	for controller, l := range map[string]Limits{
		"memory": {MemoryMax: 1 << 30}, "pids": {PidsMax: 10}, "cpu": {CPUMillis: 100},
	} {
		if slices.Contains(tab.Capabilities().Controllers, controller) {
			continue
		}
		_, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}, Limits: l})
		wantStartError(t, err, StageCgroup, errors.ErrUnsupported, 126)
		var se *StartError
		if errors.As(err, &se) && se.Path != controller {
			t.Errorf("the error names %q, not %q", se.Path, controller)
		}
	}
	if n := len((Limits{MemoryMax: 1, MemoryHigh: 1, SwapMax: &zero, PidsMax: 1, CPUMillis: 1, CPUWeight: 1}).settings()); n != 6 {
		t.Errorf("%d settings", n)
	}
}

func TestLimitFiles(t *testing.T) {
	tab := newTable(t, testConfig())
	for _, c := range wantedControllers {
		needController(t, tab, c)
	}
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Limits: Limits{
		MemoryMax: 64 << 20, MemoryHigh: 32 << 20, PidsMax: 7, CPUMillis: 250, CPUWeight: 50,
	}})
	for file, want := range map[string]string{
		"memory.max": "67108864", "memory.high": "33554432", "pids.max": "7", "cpu.max": "25000 100000", "cpu.weight": "50",
	} {
		b, err := os.ReadFile(filepath.Join(p.cg.dir, file))
		if got := strings.TrimSpace(string(b)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
}

// A fork bomb under a pids limit: it cannot grow, others start, and the tree
// goes with one signal.
func TestForkBomb(t *testing.T) {
	tab := newTable(t, testConfig())
	needController(t, tab, "pids")
	p := mustStart(t, tab, Spec{Script: "b() { b | b & }; b; while :; do b; done", Shell: "/bin/sh",
		Stdout: OutputDiscard, Stderr: OutputDiscard, Limits: Limits{PidsMax: 30}})
	eventually(t, "the bomb has gone off", func() bool { return len(p.cg.members()) >= 25 })
	for range 5 {
		if out, _, _ := run(t, tab, Spec{Args: []string{"echo", "x"}}); out != "x\n" {
			t.Errorf("another process printed %q", out)
		}
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
}

// The same without a limit, in both kinds of tree: killing is quicker than
// forking. The bomb is bounded, in case it is not.
func TestKillForkingTree(t *testing.T) {
	for name, cgroup := range map[string]string{"cgroup": "", "session": "none"} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Cgroup = cgroup
			tab := newTable(t, cfg)
			if cgroup == "" {
				needCgroup(t, tab)
			}
			p := mustStart(t, tab, Spec{Script: `
				f() { [ $1 -gt 0 ] && { i=0; while [ $i -lt 12 ]; do f $(($1-1)) & sleep 0.01; i=$((i+1)); done; }; sleep 1000; }
				f 3`, Shell: "/bin/sh"})
			eventually(t, "it forks", func() bool { return len(sessionMembers(p.PID())) > 50 })
			if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
				t.Fatal(err)
			}
			<-p.Finished()
			eventually(t, "all are dead", func() bool { return len(sessionMembers(p.PID())) == 0 })
			if e := mustWait(t, p); e.Signal != syscall.SIGKILL {
				t.Errorf("exit %+v", e)
			}
		})
	}
}

// hog takes memory until it is stopped.
const hog = `x=0123456789; while :; do x=$x$x; done`

func TestMemoryHog(t *testing.T) {
	tab := newTable(t, testConfig())
	needController(t, tab, "memory")
	zero := int64(0)
	limits := Limits{MemoryMax: 32 << 20, SwapMax: &zero}
	_, _, e := run(t, tab, Spec{Script: hog, Shell: "/bin/sh", Limits: limits})
	if e.Signal != syscall.SIGKILL || e.OOM == nil || e.OOM.Scope != OOMOwn || e.OOM.Count == 0 || e.OOM.Peak < 16<<20 && e.OOM.Peak != 0 {
		t.Errorf("exit %+v, OOM %+v", e, e.OOM)
	}
	// A child is killed, the process is not: that is reported too.
	_, _, e = run(t, tab, Spec{Script: "sh -c '" + hog + "'; exit 5", Shell: "/bin/sh", Limits: limits})
	if e.Code != 5 || e.OOM == nil || e.OOM.Scope != OOMOwn {
		t.Errorf("exit %+v, OOM %+v", e, e.OOM)
	}
	// The limit of the sandbox: not the process's own.
	if err := os.WriteFile(filepath.Join(tab.tree.dir, "memory.max"), []byte(strconv.Itoa(48<<20)), 0); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(tab.tree.dir, "memory.swap.max"), []byte("0"), 0)
	_, _, e = run(t, tab, Spec{Script: hog, Shell: "/bin/sh"})
	if e.OOM == nil || e.OOM.Scope != OOMSandbox {
		t.Errorf("exit %+v, OOM %+v", e, e.OOM)
	}
	if _, _, e = run(t, tab, Spec{Args: []string{"true"}}); e.OOM != nil {
		t.Errorf("OOM %+v", e.OOM)
	}
}

func TestCPULimit(t *testing.T) {
	tab := newTable(t, testConfig())
	needController(t, tab, "cpu")
	_, _, e := run(t, tab, Spec{Script: "while :; do :; done", Shell: "/bin/sh", Timeout: 2 * time.Second, Limits: Limits{CPUMillis: 100}})
	if used := e.UserTime + e.SystemTime; used > e.Ended.Sub(e.Started)/2 {
		t.Errorf("used %v of %v with a tenth of a CPU", used, e.Ended.Sub(e.Started))
	}
}
