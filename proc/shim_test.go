//go:build linux

package proc

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

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

// A limit on processes is the program's: the shim, which has threads, neither
// runs into it nor counts against it.
func TestShimProcessLimit(t *testing.T) {
	needRoot(t)
	tab := newTable(t, testConfig())
	nproc, _ := ParseRlimit("nproc")
	// Users that have no other processes.
	user := func(i int) string { return strconv.Itoa(100_000 + 3*os.Getpid() + i) }
	spec := func(user string, limit uint64) Spec {
		return Spec{Args: []string{"sleep", "0"}, User: user, Rlimits: []Rlimit{{nproc, limit, limit}}}
	}
	for i := range 50 {
		// As for prlimit(1): the limit is on the processes beside this one.
		out, errs, e := run(t, tab, spec(user(0), uint64(i%2)))
		if out != "" || errs != "" || !e.Success() {
			t.Fatalf("try %d: %q, %q, %+v", i, out, errs, e)
		}
	}
	if _, _, err := tab.Start(testContext(t), Spec{Args: []string{"sleep", "1000"}, User: user(1)}); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, _, err := tab.Start(testContext(t), spec(user(1), 0))
		wantStartError(t, err, StageExec, syscall.EAGAIN, 126)
	}
	_, errs, e := run(t, tab, Spec{Script: "sleep 0 & wait", Shell: "/bin/sh", User: user(2), Rlimits: []Rlimit{{nproc, 1, 1}}})
	if e.Success() || !strings.Contains(errs, "fork") {
		t.Errorf("a fork beyond the limit: %q, %+v", errs, e)
	}
}

// What a shim that fails says is about what failed.
func TestShimFailures(t *testing.T) {
	dir := t.TempDir()
	umask := uint32(0)
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	nofile, _ := ParseRlimit("nofile")
	for name, c := range map[string]struct {
		spec  Spec
		stage Stage
		path  string
		err   error
		code  int
	}{
		"missing": {Spec{Args: []string{"/no/such/program"}}, StageExec, "/no/such/program", syscall.ENOENT, 127},
		"plain":   {Spec{Args: []string{plain}}, StageExec, plain, syscall.EACCES, 126},
		"dir":     {Spec{Args: []string{"/bin/true"}, Dir: plain}, StageCwd, plain, syscall.ENOTDIR, 126},
		"rlimit":  {Spec{Args: []string{"/bin/true"}, Rlimits: []Rlimit{{nofile, 1 << 40, 1 << 40}}}, StageRlimit, "nofile", syscall.EPERM, 126},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Umask = &umask
			_, _, err := newTable(t, testConfig()).Start(testContext(t), c.spec)
			wantStartError(t, err, c.stage, c.err, c.code)
			var se *StartError
			if errors.As(err, &se) && se.Path != c.path {
				t.Errorf("about %q, not %q", se.Path, c.path)
			}
		})
	}
	// One that dies before the exec has started nothing.
	cfg := testConfig()
	cfg.Shim = []string{"/bin/false"}
	_, _, err := newTable(t, cfg).Start(testContext(t), Spec{Args: []string{"/bin/true"}, Umask: &umask})
	wantStartError(t, err, StageExec, errShimDied, 126)
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
	umask := uint32(0o022) // goes through the shim
	for _, umask := range []*uint32{nil, &umask} {
		got, _, _ := run(t, tab, Spec{Script: "until [ $(ulimit -Hn) -lt 150000 ]; do :; done; ulimit -n; ulimit -Hn", Shell: "/bin/sh", Umask: umask})
		if got != string(want) {
			t.Errorf("got %q, want %q", got, want)
		}
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
