//go:build linux

package proc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/passwd"
)

func TestRun(t *testing.T) {
	tab := newTable(t, testConfig())
	for _, tc := range []struct {
		name           string
		spec           Spec
		stdout, stderr string
		code           int
		signal         syscall.Signal
	}{
		{"args", Spec{Args: []string{"echo", "a b", "c"}}, "a b c\n", "", 0, 0},
		{"script", Spec{Script: "echo out; echo err >&2; exit 3", Shell: "/bin/sh"}, "out\n", "err\n", 3, 0},
		{"merged", Spec{Script: "echo out; echo err >&2", Shell: "/bin/sh", Stderr: OutputMerge}, "out\nerr\n", "", 0, 0},
		{"stdout discarded", Spec{Script: "echo out; echo err >&2", Shell: "/bin/sh", Stdout: OutputDiscard}, "", "err\n", 0, 0},
		{"all discarded", Spec{Script: "echo out; echo err >&2", Shell: "/bin/sh", Stdout: OutputDiscard, Stderr: OutputMerge}, "", "", 0, 0},
		{"signal", Spec{Script: "kill -9 $$", Shell: "/bin/sh"}, "", "", 0, syscall.SIGKILL},
		{"no stdin", Spec{Args: []string{"cat"}}, "", "", 0, 0},
		{"dir", Spec{Args: []string{"pwd"}, Dir: "/usr"}, "/usr\n", "", 0, 0},
		{"login shell", Spec{Script: "echo $0", Shell: "/bin/sh", Login: true}, "-sh\n", "", 0, 0},
		{"descriptors", Spec{Args: []string{"sh", "-c", "ls /proc/$$/fd; :"}}, "0\n1\n2\n", "", 0, 0},
		{"bytes", Spec{Args: []string{"printf", "%s", "\xff\xfe\x01"}}, "\xff\xfe\x01", "", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, e := run(t, tab, tc.spec)
			if stdout != tc.stdout || stderr != tc.stderr || e.Code != tc.code || e.Signal != tc.signal {
				t.Errorf("stdout %q, stderr %q, exit %+v", stdout, stderr, e)
			}
			if e.OutputHeld || e.TimedOut || e.OOM != nil || e.Ended.Before(e.Started) {
				t.Errorf("exit %+v", e)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	cfg := testConfig()
	cfg.Env = []string{"SANDBOX=1", "BOTH=sandbox"}
	t.Setenv("AGENT_SECRET", "x")
	tab := newTable(t, cfg)
	env := func(s Spec) []string {
		s.Args = []string{"/usr/bin/env"}
		out, _, _ := run(t, tab, s)
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	got := env(Spec{Env: []string{"OWN=1", "BOTH=own", "OWN=2"}})
	for _, want := range []string{"SANDBOX=1", "BOTH=own", "OWN=2", "PATH=" + DefaultPath} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing from %q", want, got)
		}
	}
	keys := map[string]int{}
	for _, kv := range got {
		k, _, _ := strings.Cut(kv, "=")
		keys[k]++
	}
	for _, k := range []string{"HOME", "USER", "LOGNAME", "SHELL", "OWN", "BOTH"} {
		if keys[k] != 1 {
			t.Errorf("%s is there %d times", k, keys[k])
		}
	}
	if keys["AGENT_SECRET"] != 0 {
		t.Error("the agent's environment leaks")
	}
	if got := env(Spec{CleanEnv: true, Env: []string{"ONLY=1"}}); !slices.Equal(got, []string{"ONLY=1"}) {
		t.Errorf("clean environment: %q", got)
	}
	if err := tab.UpdateEnv([]string{"LATER=1"}, []string{"SANDBOX"}); err != nil {
		t.Fatal(err)
	}
	if got := env(Spec{}); !slices.Contains(got, "LATER=1") || slices.Contains(got, "SANDBOX=1") {
		t.Errorf("after the update: %q", got)
	}
	if want := []string{"BOTH=sandbox", "LATER=1"}; !slices.Equal(tab.Environ(), want) {
		t.Errorf("Environ: %q", tab.Environ())
	}
	if v, ok := tab.Getenv("LATER"); !ok || v != "1" {
		t.Errorf("Getenv: %q, %v", v, ok)
	}
	if err := tab.UpdateEnv([]string{"X=1", "broken"}, []string{"BOTH"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("malformed: %v", err)
	}
	if _, ok := tab.Getenv("BOTH"); !ok {
		t.Error("a refused update changed something")
	}
}

func TestUser(t *testing.T) {
	needRoot(t)
	tab := newTable(t, testConfig())
	out, _, _ := run(t, tab, Spec{Script: "id -u; id -g; id -G; pwd; echo $HOME $USER", User: "12345:123", Shell: "/bin/sh"})
	if want := "12345\n123\n123\n/\n/ 12345\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	// A home directory that the user may not enter gives way to the root.
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.Passwd = func(string) (passwd.Identity, error) {
		return passwd.Identity{Name: "u", UID: 12345, GID: 12345, Home: home, Shell: "/bin/sh"}, nil
	}
	tab = newTable(t, cfg)
	if out, _, _ := run(t, tab, Spec{Args: []string{"pwd"}, User: "u"}); out != "/\n" {
		t.Errorf("got %q", out)
	}
	_, _, err := tab.Start(testContext(t), Spec{Args: []string{"pwd"}, User: "u", Dir: "~"})
	wantStartError(t, err, StageCwd, fs.ErrPermission, 126)
	if err := os.Chown(home, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []Spec{{User: "u"}, {User: "u", Dir: "~"}, {User: "u", Dir: "."}, {User: "u", Umask: new(uint32)}} {
		spec.Args = []string{"pwd"}
		if err := os.Chmod(filepath.Dir(home), 0o711); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(filepath.Dir(home)), 0o711); err != nil {
			t.Fatal(err)
		}
		if out, _, _ := run(t, tab, spec); out != home+"\n" {
			t.Errorf("%+v: got %q", spec, out)
		}
	}
}

func wantStartError(t *testing.T, err error, stage Stage, is error, code int) {
	t.Helper()
	var se *StartError
	if !errors.As(err, &se) {
		t.Fatalf("got %v, want a StartError", err)
	}
	if se.Stage != stage || is != nil && !errors.Is(err, is) || se.ExitCode() != code {
		t.Errorf("got %#v (%v), code %d; want stage %s, %v, %d", se, err, se.ExitCode(), stage, is, code)
	}
}

func TestStartErrors(t *testing.T) {
	tab := newTable(t, testConfig())
	dir := t.TempDir()
	file := func(name, content string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "data", 0o644)
	noExec := file("noexec", "data", 0o755)
	badInterp := file("interp", "#!/does/not/exist\n", 0o755)
	umask := uint32(0o77)
	for _, tc := range []struct {
		name  string
		spec  Spec
		stage Stage
		is    error
		code  int
	}{
		{"no such program in PATH", Spec{Args: []string{"no-such-program"}}, StageLookup, fs.ErrNotExist, 127},
		{"no such file", Spec{Args: []string{"/no/such/program"}}, StageExec, fs.ErrNotExist, 127},
		{"no such file, shim", Spec{Args: []string{"/no/such/program"}, Umask: &umask}, StageExec, fs.ErrNotExist, 127},
		{"missing interpreter", Spec{Args: []string{badInterp}}, StageExec, fs.ErrNotExist, 127},
		{"not executable", Spec{Args: []string{plain}}, StageExec, fs.ErrPermission, 126},
		{"not executable, shim", Spec{Args: []string{plain}, Umask: &umask}, StageExec, fs.ErrPermission, 126},
		{"not executable in PATH", Spec{Args: []string{"plain"}, Env: []string{"PATH=" + dir}}, StageLookup, fs.ErrPermission, 126},
		{"a directory", Spec{Args: []string{dir}}, StageExec, syscall.EACCES, 126},
		{"not a program", Spec{Args: []string{noExec}}, StageExec, syscall.ENOEXEC, 126},
		{"missing cwd", Spec{Args: []string{"true"}, Dir: dir + "/none"}, StageCwd, fs.ErrNotExist, 126},
		{"cwd is a file", Spec{Args: []string{"true"}, Dir: plain}, StageCwd, syscall.ENOTDIR, 126},
		{"unknown user", Spec{Args: []string{"true"}, User: "no-such-user"}, StageUser, passwd.ErrUnknownUser, 126},
		{"too many arguments", Spec{Args: []string{"true", strings.Repeat("x", 1<<20)}}, StageExec, syscall.E2BIG, 126},
		{"name too long", Spec{Args: []string{"/" + strings.Repeat("x", 300)}}, StageExec, syscall.ENAMETOOLONG, 126},
		{"name too long in PATH", Spec{Args: []string{strings.Repeat("x", 300)}}, StageLookup, syscall.ENAMETOOLONG, 126},
		{"rlimit above hard limit", Spec{Args: []string{"true"}, Rlimits: []Rlimit{{Resource: 99, Soft: 1, Hard: 1}}}, StageRlimit, syscall.EINVAL, 126},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, started, err := tab.Start(testContext(t), tc.spec)
			if started {
				t.Error("started")
			}
			wantStartError(t, err, tc.stage, tc.is, tc.code)
		})
	}
	if n := len(tab.List()); n != 0 {
		t.Errorf("%d processes are left in the table", n)
	}
}

func TestUserMayNot(t *testing.T) {
	needRoot(t)
	tab := newTable(t, testConfig())
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(secret, "true")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	umask := uint32(0o77)
	for _, u := range []*uint32{nil, &umask} { // directly, and through the shim
		_, _, err := tab.Start(testContext(t), Spec{Args: []string{"true"}, User: "12345", Dir: secret, Umask: u})
		wantStartError(t, err, StageCwd, fs.ErrPermission, 126)
		_, _, err = tab.Start(testContext(t), Spec{Args: []string{program}, User: "12345", Dir: "/", Umask: u})
		wantStartError(t, err, StageExec, fs.ErrPermission, 126)
	}
}

func TestInvalidSpecs(t *testing.T) {
	tab := newTable(t, testConfig())
	for name, spec := range map[string]Spec{
		"nothing":           {},
		"empty program":     {Args: []string{""}},
		"args and script":   {Args: []string{"true"}, Script: "true"},
		"NUL in args":       {Args: []string{"true", "a\x00b"}},
		"NUL in script":     {Script: "a\x00b"},
		"NUL in env":        {Args: []string{"true"}, Env: []string{"A=\x00"}},
		"NUL in dir":        {Args: []string{"true"}, Dir: "/\x00"},
		"env without =":     {Args: []string{"true"}, Env: []string{"A"}},
		"env without key":   {Args: []string{"true"}, Env: []string{"=1"}},
		"stdout merged":     {Args: []string{"true"}, Stdout: OutputMerge},
		"id with a slash":   {ID: "a/b", Args: []string{"true"}},
		"id with a dot":     {ID: "..", Args: []string{"true"}},
		"id too long":       {ID: strings.Repeat("x", 65), Args: []string{"true"}},
		"nice":              {Args: []string{"true"}, Nice: 20},
		"oom score":         {Args: []string{"true"}, OOMScoreAdj: 1001},
		"negative limit":    {Args: []string{"true"}, Limits: Limits{PidsMax: -1}},
		"small ring":        {Args: []string{"true"}, RingSize: 1},
		"rlimit soft, hard": {Args: []string{"true"}, Rlimits: []Rlimit{{Resource: 1, Soft: 2, Hard: 1}}},
	} {
		_, _, err := tab.Start(testContext(t), spec)
		var se *SpecError
		if !errors.As(err, &se) || !errors.Is(err, ErrInvalid) || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPathLookup(t *testing.T) {
	tab := newTable(t, testConfig())
	dir := t.TempDir()
	for _, sub := range []string{"a", "b"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := func(path, word string, mode fs.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, path), []byte("#!/bin/sh\necho "+word+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	script("a/prog", "a", 0o644) // not executable: passed over
	script("b/prog", "b", 0o755)
	for _, path := range []string{dir + "/a:" + dir + "/b", "a:b", "none::b"} {
		out, _, _ := run(t, tab, Spec{Args: []string{"prog"}, Env: []string{"PATH=" + path}, Dir: dir})
		if out != "b\n" {
			t.Errorf("PATH=%s: %q", path, out)
		}
	}
	if out, _, _ := run(t, tab, Spec{Args: []string{"b/prog"}, Dir: dir}); out != "b\n" {
		t.Errorf("relative to the directory: %q", out)
	}
	if out, _, _ := run(t, tab, Spec{Args: []string{"echo", "x"}, CleanEnv: true}); out != "x\n" {
		t.Errorf("without a PATH: %q", out)
	}
}

// A program that was written just now may be held open by a child that some
// other thread forked at that moment.
func TestTextFileBusy(t *testing.T) {
	tab := newTable(t, testConfig())
	path := filepath.Join(t.TempDir(), "prog")
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	args := []string{path, "helper", "flood", "0"}
	_, _, err = tab.Start(testContext(t), Spec{Args: args})
	wantStartError(t, err, StageExec, syscall.ETXTBSY, 126)
	tries := 0
	err = retryBusy(func() error {
		if tries++; tries == 3 {
			_ = f.Close()
		}
		pid, err := syscall.ForkExec(path, args, nil)
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return err
	})
	if err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	if _, _, e := run(t, tab, Spec{Args: args}); !e.Success() {
		t.Errorf("exit %+v", e)
	}
}
