//go:build linux

package boot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The roles of the test binary when it starts itself again. The tests boot it
// as PID 1 of pid and mount namespaces of its own; there it runs itself as the
// agent, exactly as guestd does.
const (
	roleVariable = "GUESTD_BOOT_TEST"
	roleInit     = "init"
	roleAgent    = "agent"
	roleStubborn = "stubborn"
	roleBare     = "bare"
)

// What PID 1 gives processes in these tests, where the agent has one that
// ignores the request, and where everybody follows it.
const (
	shortGrace = 300 * time.Millisecond
	longGrace  = time.Minute
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleInit:
		grace := longGrace
		if os.Args[1] == roleStubborn {
			grace = shortGrace
		}
		status, err := Run(Config{
			Command:   func(Options) []string { return os.Args[1:] },
			Env:       []string{roleVariable + "=" + roleAgent},
			Container: true,
			Grace:     grace,
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(status)
	case roleAgent:
		os.Exit(agentMain(os.Args[1]))
	case roleBare:
		os.Exit(bareMain())
	case roleStubborn:
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("stubborn", os.Getpid())
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// machine is a PID 1 under test. What its processes print arrives in lines.
type machine struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

// boot starts PID 1 with an agent that does what is said (see agentMain).
func boot(t *testing.T, what string) *machine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, what)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInit)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		// Unshareflags makes the mounts private, Cloneflags does not.
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			t.Skipf("no pid namespace for us: %v", err)
		}
		t.Fatal(err)
	}
	m := &machine{t: t, cmd: cmd, lines: make(chan string, 10_000)}
	var reading sync.WaitGroup
	reading.Go(func() { m.read(out) })
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // of PID 1: the kernel kills the namespace
		reading.Wait()
		_ = cmd.Wait()
	})
	return m
}

func (m *machine) read(out io.Reader) {
	defer close(m.lines)
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		m.lines <- scanner.Text()
	}
}

// expect returns the first line with the prefix, without it.
func (m *machine) expect(prefix string) string {
	m.t.Helper()
	timeout := time.After(5 * time.Minute)
	var seen []string
	for {
		select {
		case line, open := <-m.lines:
			if !open {
				m.t.Fatalf("ended before %q:\n%s", prefix, strings.Join(seen, "\n"))
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest
			}
			seen = append(seen, line)
		case <-timeout:
			m.t.Fatalf("no %q:\n%s", prefix, strings.Join(seen, "\n"))
		}
	}
}

// signal sends to PID 1 from outside.
func (m *machine) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatal(err)
	}
}

// end waits for PID 1 to exit and checks its status.
func (m *machine) end(want int) {
	m.t.Helper()
	for line := range m.lines {
		if strings.Contains(line, "survived") {
			m.t.Error(line)
		}
	}
	_ = m.cmd.Wait()
	if got := m.cmd.ProcessState.ExitCode(); got != want {
		m.t.Errorf("PID 1: %v, want exit status %d", m.cmd.ProcessState, want)
	}
}

// agentMain is the agent of these tests.
func agentMain(what string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGWINCH)
	switch what {
	case "orphans":
		return makeOrphans()
	case "read":
		text, err := io.ReadAll(os.Stdin)
		fmt.Printf("read %q %v\n", text, err)
		return 0
	case "die":
		fmt.Println("life", os.Getpid())
		os.Exit(7)
	case roleStubborn:
		if err := self(roleStubborn).Start(); err != nil {
			fmt.Println(err)
		}
	case "end":
		fmt.Println("request", Request(Reboot))
	}
	sid, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0)
	fmt.Println("agent", os.Getpid(), os.Getppid(), sid, os.Getenv("PATH") != "")
	for sig := range signals {
		fmt.Println("got", sig)
		if sig == syscall.SIGTERM {
			break
		}
	}
	return 0
}

// self is this binary in another role, writing where we write.
func self(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

const orphans = 2000

// makeOrphans runs children, each of which leaves a grandchild behind, and
// reports how many exit statuses got lost and how many zombies stay.
func makeOrphans() int {
	const workers = 8
	var all sync.WaitGroup
	var mu sync.Mutex
	lost := 0
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < orphans; i += workers {
				want := i % 256
				err := exec.Command("/bin/sh", "-c", fmt.Sprintf("/bin/true & exit %d", want)).Run()
				got := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					got = exit.ExitCode()
				} else if err != nil {
					got = -1
				}
				if got != want {
					mu.Lock()
					lost++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	fmt.Println("lost", lost)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if n := zombies(); n == 0 || time.Now().After(deadline) {
			fmt.Println("zombies", n)
			break
		}
	}
	select {}
}

func zombies() (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		stat, _ := os.ReadFile(file)
		if _, rest, found := strings.Cut(string(stat), ") "); found && strings.HasPrefix(rest, "Z") {
			n++
		}
	}
	return n
}

func TestAgentIsAChildInItsOwnSession(t *testing.T) {
	fields := strings.Fields(boot(t, "serve").expect("agent "))
	if len(fields) != 4 || fields[1] != "1" || fields[2] != fields[0] || fields[3] != "true" {
		t.Errorf("pid, parent, session, has PATH: %q", fields)
	}
}

// PID 1 sees the processes of its own namespace in /proc although another one
// was mounted, which only holds if it mounted its own.
func TestReapsOrphansAndLosesNoStatus(t *testing.T) {
	m := boot(t, "orphans")
	if lost := m.expect("lost "); lost != "0" {
		t.Errorf("%s of %d exit statuses are lost", lost, orphans)
	}
	if left := m.expect("zombies "); left != "0" {
		t.Errorf("%s zombies", left)
	}
}

func TestRestartsTheAgent(t *testing.T) {
	m := boot(t, "die")
	var pids []string
	for range 3 {
		pids = append(pids, m.expect("life "))
	}
	slices.Sort(pids)
	if len(slices.Compact(pids)) != 3 {
		t.Errorf("three lives, pids %v", pids)
	}
	m.signal(syscall.SIGTERM) // also while it waits for the next start
	m.end(0)
}

func TestRestartsAKilledAgent(t *testing.T) {
	m := boot(t, "serve")
	first := m.expect("agent ")
	m.signal(syscall.SIGQUIT) // forwarded: Go dies of it with a dump
	if m.expect("agent ") == first {
		t.Error("the same agent again")
	}
}

func TestForwardsSignals(t *testing.T) {
	m := boot(t, "serve")
	m.expect("agent ")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGWINCH, syscall.SIGHUP} {
		m.signal(sig)
		if got := m.expect("got "); got != sig.String() {
			t.Errorf("the agent got %s, want %s", got, sig)
		}
	}
}

// Nothing that anybody may send ends PID 1 by itself.
func TestSurvivesOtherSignals(t *testing.T) {
	m := boot(t, "serve")
	m.expect("agent ")
	for n := syscall.Signal(1); n < 65; n++ {
		_, ends := actionFor(n, true)
		if !ends && !forwarded(n) && n != syscall.SIGKILL && n != syscall.SIGSTOP {
			m.signal(n)
		}
	}
	m.signal(syscall.SIGHUP)
	m.expect("got hangup")
}

func TestEnds(t *testing.T) {
	tests := []struct {
		sig    syscall.Signal
		status int
	}{
		{syscall.SIGTERM, 0}, {syscall.SIGINT, 0}, {syscall.SIGUSR1, 0}, {syscall.SIGUSR2, 0}, {syscall.SIGPWR, 0},
		{sigPowerOff, 0}, {sigHalt, 0}, {sigReboot, exitReboot},
	}
	for _, tt := range tests {
		t.Run(strconv.Itoa(int(tt.sig)), func(t *testing.T) {
			m := boot(t, "serve")
			m.expect("agent ")
			m.signal(tt.sig)
			m.expect("got terminated") // the agent is asked first
			m.end(tt.status)
		})
	}
}

func TestAgentAsksForTheEnd(t *testing.T) {
	m := boot(t, "end")
	if got := m.expect("request "); got != "<nil>" {
		t.Errorf("request: %s", got)
	}
	m.end(exitReboot)
}

// A process that ignores SIGTERM gets SIGKILL after the grace.
func TestEndKillsTheStubborn(t *testing.T) {
	m := boot(t, roleStubborn)
	m.expect("stubborn ")
	start := time.Now()
	m.signal(syscall.SIGTERM)
	m.end(0)
	if took := time.Since(start); took < shortGrace {
		t.Errorf("ended after %v, before the grace of %v", took, shortGrace)
	}
}

// bareMain starts the agent where there is neither /proc nor /dev, as on a
// root that is read-only and has no place for them.
func bareMain() int {
	for _, dir := range []string{"/proc", "/dev"} {
		if err := tmpfs(dir, tmpSize).mount(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	a := &agent{argv: []string{os.Args[0], "read"}, env: mergeEnv(os.Environ(), []string{roleVariable + "=" + roleAgent})}
	defer a.close()
	pid, err := a.start()
	if err == nil {
		_, err = syscall.Wait4(pid, nil, 0, nil)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestStartsTheAgentWithoutProcAndDev(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts something over /proc and /dev")
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleBare)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "read \"\" <nil>\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRunRefusesToBeAnythingElse(t *testing.T) {
	if _, err := Run(Config{}); !errors.Is(err, ErrNotInit) {
		t.Errorf("error %v", err)
	}
}

func TestActions(t *testing.T) {
	if action, ends := actionFor(syscall.SIGTERM, false); !ends || action != Reboot {
		t.Errorf("SIGTERM in a machine: %v", action)
	}
	if action, ends := actionFor(syscall.SIGHUP, false); ends {
		t.Errorf("SIGHUP: %v", action)
	}
	if err := Request(0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Request(0): %v", err)
	}
}
