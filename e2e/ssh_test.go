//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/microvm"
)

// TestSSH comes in by the door that an agent on vsock opens by itself, with
// this machine's OpenSSH, and looks in the end what that left in the guest.
func TestSSH(t *testing.T) {
	h := newSSHHost(t)
	t.Run("the door is open", h.testDoor)
	h.run(t, nil, h.guestctl("ssh", "--", "true")) // what the first session makes for good is there
	before := h.traces(t)
	t.Run("command", h.testCommand)
	t.Run("terminal", h.testTerminal)
	t.Run("files", h.testFiles)
	t.Run("forwarding", h.testForwarding)
	t.Run("unix sockets", h.testUnixSockets)
	t.Run("agent", h.testAgent)
	t.Run("grants", h.testGrants)
	t.Run("revoked session", h.testRevokedSession)
	t.Run("nothing is left", func(t *testing.T) { h.testTraces(t, before) })
}

// sshHost is this machine as the host of the shared VM.
type sshHost struct {
	vm     *microvm.VM
	client *client.Client
	dir    string // home, and all that the programs write
}

// newSSHHost skips the test where there are no clients to test with.
func newSSHHost(t *testing.T) *sshHost {
	t.Helper()
	vm := requireVM(t)
	for _, program := range []string{"ssh", "scp", "sftp", "ssh-keygen", "ssh-agent", "ssh-add"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("OpenSSH's clients are not on this machine: %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "e2e-ssh-") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &sshHost{vm: vm, client: connect(t, vm), dir: dir}
}

// guestctl is guestctl for the VM.
func (h *sshHost) guestctl(args ...string) *exec.Cmd { return h.command(built.guestctl, args...) }

// command is a program in an environment of its own, and without the agent and
// the files of whoever runs the tests.
func (h *sshHost) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = h.dir
	cmd.WaitDelay = answerLimit // what a program leaves may hold its output
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "TMPDIR=" + h.dir, "XDG_DATA_HOME=" + h.dir, "LC_ALL=C",
		"GUESTD_AGENT=" + h.vm.Addr(microvm.PortAgent),
	}
	return cmd
}

// outcome is how a program ended.
type outcome struct {
	stdout, stderr string
	code           int // -1 for a signal
}

// run runs a program to its end.
func (h *sshHost) run(t *testing.T, stdin []byte, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.wait(t, cmd)
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// wait waits for a program that was started, and ends it when it takes too long.
func (h *sshHost) wait(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); ctx.Err() != nil {
		t.Fatalf("%s: %v after %v", cmd.Args, err, answerLimit)
	}
}

// succeed runs a program that has to, and returns its output.
func (h *sshHost) succeed(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	got := h.run(t, nil, cmd)
	if got.code != 0 {
		t.Fatalf("%s: status %d\n%s", cmd.Args, got.code, got.stderr)
	}
	return got.stdout
}

// config is a file by which OpenSSH's programs know the guest as "vm", as the
// user ann, for any number of connections.
func (h *sshHost) config(t *testing.T) string {
	t.Helper()
	path := filepath.Join(h.dir, "config")
	if err := os.WriteFile(path, []byte(h.succeed(t, h.guestctl("ssh-config", "-u", "ann", "vm"))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// until waits for something to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// testDoor: nothing was asked for on the guest's command line.
func (h *sshHost) testDoor(t *testing.T) {
	var info struct {
		Capabilities struct{ Features []string }
	}
	if err := json.Unmarshal([]byte(h.succeed(t, h.guestctl("info", "--json"))), &info); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(info.Capabilities.Features, "ssh") {
		t.Errorf("guestctl info tells of %q", info.Capabilities.Features)
	}
	if got := sh(t, h.client, "tr '\\0' ' ' </proc/$PPID/cmdline"); strings.Contains(got, "--ssh") {
		t.Errorf("the agent was started as %s", got)
	}
}

func (h *sshHost) testCommand(t *testing.T) {
	stdin := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, tt := range []struct {
		name, script string
		args         []string
		want         outcome
	}{
		{name: "output", script: "echo out; echo err >&2", want: outcome{stdout: "out\n", stderr: "err\n"}},
		{name: "input", script: "wc -c", want: outcome{stdout: "1048576\n"}},
		{name: "status", script: "exit 7", want: outcome{code: 7}},
		{name: "signal", script: "kill -KILL $$", want: outcome{code: 255}},
		{name: "user", script: "id -un; id -Gn; pwd; echo $HOME $SSH_AUTH_SOCK", args: []string{"-u", "ann"},
			want: outcome{stdout: "ann\nann staff\n/home/ann\n/home/ann\n"}},
		{name: "no terminal", script: "test -t 0 || echo none", want: outcome{stdout: "none\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := h.run(t, stdin, h.guestctl(append(append([]string{"ssh"}, tt.args...), "--", tt.script)...))
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	t.Run("binary both ways", func(t *testing.T) {
		data := random(4 << 20)
		if got := h.run(t, data, h.guestctl("ssh", "cat")); got.stdout != string(data) || got.code != 0 {
			t.Errorf("%d bytes came back of %d, status %d, %s", len(got.stdout), len(data), got.code, got.stderr)
		}
	})
}

// testTerminal resizes a terminal, and ends a program by a key.
func (h *sshHost) testTerminal(t *testing.T) {
	script := `tty; ls -l $(tty) | cut -c1-10; stat -c %U $(tty); stty size
		until test "$(stty size)" = "41 101"; do sleep 0.1; done; echo resized
		trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done`
	cmd := h.guestctl("ssh", "-u", "ann", "-tt", "--", script)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 97})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("this user may open no terminals here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var screen strings.Builder
	see := func(text string) {
		t.Helper()
		b := make([]byte, 4096)
		for !strings.Contains(screen.String(), text) {
			n, err := terminal.Read(b)
			screen.Write(b[:n])
			if err != nil {
				t.Fatalf("no %q before %v on the screen:\n%s", text, err, screen.String())
			}
		}
	}
	stop := time.AfterFunc(answerLimit, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop.Stop()
	see("31 97\r\n")
	if !strings.Contains(screen.String(), "/dev/pts/") || !strings.Contains(screen.String(), "\r\nann\r\n") {
		t.Errorf("the screen is\n%s", screen.String())
	}
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 41, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	see("resized\r\n")
	see("ready\r\n")
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	see("caught\r\n")
	h.wait(t, cmd)
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("status %d", code)
	}
}
