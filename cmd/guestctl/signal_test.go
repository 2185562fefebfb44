//go:build linux

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// startReady starts guestctl and returns when its first line of output has come;
// the reader has the rest.
func startReady(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	r := bufio.NewReader(stdout)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return r
}

func TestSignalsArePassedOn(t *testing.T) {
	socket := newAgent(t)
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{
		{syscall.SIGINT, "INT"}, {syscall.SIGTERM, "TERM"}, {syscall.SIGHUP, "HUP"},
		{syscall.SIGQUIT, "QUIT"}, {syscall.SIGUSR1, "USR1"}, {syscall.SIGUSR2, "USR2"},
	} {
		t.Run(s.name, func(t *testing.T) {
			cmd := guestctl(t, socket, "exec", "--", "sh", "-c", "trap 'echo caught; exit 11' "+s.name+"; echo ready; while :; do sleep 0.05; done")
			stdout := startReady(t, cmd)
			if err := cmd.Process.Signal(s.signal); err != nil {
				t.Fatal(err)
			}
			if line, _ := stdout.ReadString('\n'); line != "caught\n" {
				t.Errorf("%q", line)
			}
			if code := exitCodeOf(t, cmd.Wait()); code != 11 {
				t.Errorf("exit code %d", code)
			}
		})
		t.Run(s.name+" ends it", func(t *testing.T) {
			cmd := guestctl(t, socket, "exec", "--", "sh", "-c", "echo ready; exec sleep 1000")
			startReady(t, cmd)
			if err := cmd.Process.Signal(s.signal); err != nil {
				t.Fatal(err)
			}
			if code := exitCodeOf(t, cmd.Wait()); code != 128+int(s.signal) {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestSignalsOfOtherCommands end them, with the code of a shell.
func TestSignalsOfOtherCommands(t *testing.T) {
	socket := newAgent(t)
	outputOf(t, socket, "run", "--id", "p", "--", "sh", "-c", "echo ready; exec sleep 1000")
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, args := range [][]string{{"logs", "-f", "p"}, {"attach", "--replay", "--no-signals", "p"}} {
			cmd := guestctl(t, socket, args...)
			startReady(t, cmd)
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if code := exitCodeOf(t, cmd.Wait()); code != 128+int(s) {
				t.Errorf("%s: exit code %d after %v", args[0], code, s)
			}
		}
	}
	if ids := outputOf(t, socket, "ps", "-q"); ids != "p\n" {
		t.Errorf("left: %q", ids)
	}
}

// TestSignalsEndWhatIsBlocked in a pipe of which the other end does nothing.
func TestSignalsEndWhatIsBlocked(t *testing.T) {
	socket := newAgent(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"cp", "-", ":" + dir + "/in"}, {"cp", fifo, ":" + dir + "/in"}, {"cp", ":/etc/passwd", fifo}, {"cat", "/dev/zero"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			cmd := guestctl(t, socket, args...)
			if _, err := cmd.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			if _, err := cmd.StdoutPipe(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			eventually(t, "a call", func() bool { return hasSocket(cmd.Process.Pid) })
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := exitCodeOf(t, cmd.Wait()); code != 128+int(syscall.SIGTERM) {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// hasSocket reports whether a process has a socket: whether guestctl is past
// connecting, and signals do not kill it any more.
func hasSocket(pid int) bool {
	links, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	return slices.ContainsFunc(links, func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && strings.HasPrefix(target, "socket:")
	})
}

func TestAttachSignals(t *testing.T) {
	socket := newAgent(t)
	start := func(id string) {
		outputOf(t, socket, "run", "--id", id, "--", "sh", "-c", "trap 'exit 21' INT; echo ready; while :; do sleep 0.05; done")
	}
	start("a")
	cmd := guestctl(t, socket, "attach", "--replay", "a")
	startReady(t, cmd)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(t, cmd.Wait()); code != 143 {
		t.Errorf("TERM: exit code %d", code)
	}
	cmd = guestctl(t, socket, "attach", "--replay", "a")
	startReady(t, cmd)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(t, cmd.Wait()); code != 21 {
		t.Errorf("INT: exit code %d", code)
	}
}

// pidFile has the guest's program write its pid, and returns it.
func readPid(t *testing.T, path string) string {
	t.Helper()
	var pid string
	eventually(t, "pid file", func() bool {
		data, err := os.ReadFile(path)
		pid = strings.TrimSpace(string(data))
		return err == nil && strings.HasSuffix(string(data), "\n")
	})
	return pid
}

func alive(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// TestKilled: when guestctl dies, what it runs does, too, unless asked to stay.
func TestKilled(t *testing.T) {
	socket := newAgent(t)
	for _, keep := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "pid")
		args := []string{"exec", "--", "sh", "-c", "sleep 1000 & echo $! >" + file + "; echo ready; wait"}
		if keep {
			args = append([]string{"exec", "--keep", "--id", "job"}, args[1:]...)
		}
		cmd := guestctl(t, socket, args...)
		startReady(t, cmd)
		pid := readPid(t, file)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if !keep {
			eventually(t, "end of the program", func() bool { return !alive(pid) })
			continue
		}
		if got := outputOf(t, socket, "logs", "job"); got != "ready\n" {
			t.Errorf("logs: %q", got)
		}
		if !alive(pid) {
			t.Error("the program was killed all the same")
		}
		outputOf(t, socket, "kill", "--tree", "-s", "KILL", "job")
	}
}

// TestCutConnection: without --keep a cut is the end, and an error; with it
// nothing is lost, as long as the agent keeps what is written meanwhile.
func TestCutConnection(t *testing.T) {
	socket := newAgent(t)
	proxy, err := newCutter(socket, false, false, 3_000_000, 4_000_000)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.close()
	script := "seq 1 2000000; exit 12"
	want, err := exec.Command("seq", "1", "2000000").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := guestctl(t, proxy.socket(), "exec", "--", "sh", "-c", script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if code := exitCodeOf(t, cmd.Run()); code != exitBroken || !strings.Contains(stderr.String(), "connection lost") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if !bytes.HasPrefix(want, stdout.Bytes()) {
		t.Error("the output until then is not right")
	}
	stdout.Reset()
	stderr.Reset()
	cmd = guestctl(t, proxy.socket(), "exec", "--keep", "--buffer", "16M", "--", "sh", "-c", script)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if code := exitCodeOf(t, cmd.Run()); code != 12 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if !bytes.Equal(stdout.Bytes(), want) {
		t.Errorf("%d bytes of output, not %d", stdout.Len(), len(want))
	}
}

// TestGapsAreTold: output that nobody read in time is gone, and that is said.
func TestGapsAreTold(t *testing.T) {
	socket := newAgent(t)
	outputOf(t, socket, "run", "--id", "much", "--buffer", "64K", "--", "sh", "-c", "seq 1 100000; echo end")
	outputOf(t, socket, "wait", "much")
	cmd := guestctl(t, socket, "logs", "much")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, stderr.String())
	}
	if !strings.HasSuffix(string(out), "100000\nend\n") {
		t.Errorf("%d bytes", len(out))
	}
	if !strings.Contains(stderr.String(), "bytes of stdout lost from offset 0 on") {
		t.Errorf("stderr: %q", stderr.String())
	}
	value, _, err := jsonAt(outputOf(t, socket, "logs", "--json", "much"), ".0.gap.stream")
	if err != nil || value != `"stdout"` {
		t.Errorf("%s, %v", value, err)
	}
}

func TestWatch(t *testing.T) {
	socket := newAgent(t)
	dir := filepath.Join(t.TempDir(), "watched")
	if err := os.MkdirAll(dir+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := guestctl(t, socket, "watch", "-r", "--exclude", "*.o", "--json", dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stderr).ReadString('\n'); err != nil || line != "guestctl: watching 2 directories\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for _, do := range []func() error{
		func() error { return os.WriteFile(dir+"/sub/x.o", nil, 0o600) },
		func() error { return os.WriteFile(dir+"/sub/\xff", nil, 0o600) },
		func() error { return os.Rename(dir+"/sub/\xff", dir+"/y") },
		func() error { return os.RemoveAll(dir) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{".0.event": `"created"`, ".0.raw_path": `"c3ViL/8="`} {
		if value, _, err := jsonAt(stdout.String(), path); err != nil || value != want {
			t.Errorf("%s is %s, %v in %s", path, value, err, stdout.String())
		}
	}
	for _, want := range []string{`"event":"renamed","path":"y","old_path":"sub/`, `"event":"gone"`} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %s in %s", want, stdout.String())
		}
	}
	if strings.Contains(stdout.String(), "x.o") {
		t.Error("what is excluded was told")
	}
}

// TestAttachOverCuts: an attachment goes on where its connection broke.
func TestAttachOverCuts(t *testing.T) {
	socket := newAgent(t)
	outputOf(t, socket, "run", "--id", "p", "--buffer", "16M", "--", "sh", "-c", "seq 1 500000; exit 3")
	want, err := exec.Command("seq", "1", "500000").Output()
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := newCutter(socket, false, false, 500_000, 1_000_000, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.close()
	cmd := guestctl(t, proxy.socket(), "attach", "--replay", "--lossless", "p")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if code := exitCodeOf(t, cmd.Run()); code != 3 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if !bytes.Equal(stdout.Bytes(), want) {
		t.Errorf("%d bytes, not %d: %s", stdout.Len(), len(want), stderr.String())
	}
}
