//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/guestd/guestd/vsock"
)

func TestSplitSSHLine(t *testing.T) {
	flags := newSSH(newApp(nil, nil, nil, os.LookupEnv)).Flags()
	flags.Bool("help", false, "")
	for _, c := range []struct{ args, own, ssh, command string }{
		{"", "", "", ""},
		{"uptime -p", "", "", "uptime -p"},
		{"-t -- -x", "", "-t", "-x"},
		{"-tt vim -u NONE", "", "-t -t", "vim -u NONE"},
		{"-u ann -N -L 80:localhost:80", "--user=ann", "-N -L 80:localhost:80", ""},
		{"-lann -vNL80:localhost:80 --ttl=1h --label x y", "--user=ann --ttl=1h --label x", "-v -N -L 80:localhost:80", "y"},
		{"-p 22 -o BatchMode=yes -W a:1", "", "-p 22 -o BatchMode=yes -W a:1", ""},
		{"-h", "--help", "", ""},
		{"--help", "--help", "", ""},
		{"-", "", "", "-"},
		{"-- ", "", "", ""},
	} {
		line, err := splitSSHLine(flags, strings.Fields(c.args))
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		for what, pair := range map[string][2]string{
			"own":     {strings.Join(line.own, " "), c.own},
			"ssh":     {strings.Join(line.ssh, " "), c.ssh},
			"command": {strings.Join(line.command, " "), c.command},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%q: %s is %q, not %q", c.args, what, pair[0], pair[1])
			}
		}
	}
	for _, args := range []string{"-u", "-L", "--ttl", "--no-such", "-vo"} {
		if _, err := splitSSHLine(flags, strings.Fields(args)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	for args, forward := range map[string]bool{"-A": true, "-vA": true, "-o forwardagent=yes": true, "-o ForwardAgent yes": true, "-a": false} {
		word := strings.SplitN(args, " ", 2)
		if line, err := splitSSHLine(flags, word); err != nil || line.forward != forward {
			t.Errorf("%q: forwards the agent: %v, %v", args, line.forward, err)
		}
	}
}

func TestSSHArguments(t *testing.T) {
	options := []sshOption{{"HostKeyAlias", "vm"}}
	plain := strings.Join(sshArguments(&sshLine{ssh: []string{"-t"}, command: []string{"-x"}}, options, "ann", "vm"), " ")
	if plain != "-F none -o HostKeyAlias=vm -o IdentityAgent=none -l ann -t -o SendEnv=LANG LC_* vm -- -x" {
		t.Error(plain)
	}
	other := sshArguments(&sshLine{config: true, forward: true}, options, "ann", "vm")
	if slices.Contains(other, "IdentityAgent=none") || slices.Contains(other, "none") || slices.Contains(other, "--") {
		t.Error(other)
	}
}

func TestGuestName(t *testing.T) {
	seen := make(map[string]string)
	for text, want := range map[string]string{
		"vsock:3:22": "cid3-", "vsock:4:22": "cid4-", "hybrid:/run/vm1.sock:22": "vm1-", "hybrid:/srv/vm1.sock:22": "vm1-",
		"unix:/tmp/-ä!.sock": "guest-", "unix:/x/-oProxyCommand=id": "oProxyCommandid-",
	} {
		address, err := vsock.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		name := guestName(address)
		if !strings.HasPrefix(name, want) || len(name) != len(want)+8 {
			t.Errorf("%s is called %q, not %s…", text, name, want)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s are both called %s", text, other, name)
		}
		seen[name] = text
	}
}

func TestLoginName(t *testing.T) {
	for _, told := range []string{"root", "0", "_apt", "a.b-c", "machine$"} {
		if name, err := loginName("", told); name != told || err != nil {
			t.Errorf("%q: %q, %v", told, name, err)
		}
	}
	for _, told := range []string{"", "-oProxyCommand=id", "a b", "$(id)", "a\n", "a;b", "é"} {
		if name, err := loginName("", told); err == nil {
			t.Errorf("a guest's user %q is taken as %q", told, name)
		}
	}
	for _, asked := range []string{"-x", "a b", "a\nb", `a"b`, "a#b", "a%b", "a\\", "a'b"} {
		if err := checkLogin(asked); err == nil {
			t.Errorf("the user %q is passed to ssh", asked)
		}
	}
	for _, asked := range []string{"", "ann", "0", "ann@example.com", "machine$", "änn"} {
		if err := checkLogin(asked); err != nil {
			t.Error(err)
		}
	}
	if name, err := loginName("ann", "-x"); name != "ann" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}

// sshIn is guestctl with a door, and a directory for what it makes.
func sshIn(t *testing.T, socket, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("there is no ssh on this machine")
	}
	cmd := guestctl(t, socket, args...)
	cmd.Env = append(cmd.Env, doorVariable+"=unix:"+filepath.Join(filepath.Dir(socket), doorName), "TMPDIR="+tmp)
	return cmd
}

func TestSSHLeavesNothingWhenASignalEndsIt(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		socket, tmp := newAgent(t), t.TempDir()
		cmd := sshIn(t, socket, tmp, "ssh", "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a session", func() bool { return outputOf(t, socket, "sessions", "-q") != "" })
		info, err := os.Stat(onlyEntry(t, tmp))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the directory of the key: %v, %v", info.Mode(), err)
		}
		// To guestctl alone, as from kill(1).
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if code := exitCodeOf(t, cmd.Wait()); code != exitBroken && code != exitSignal+int(s) {
			t.Errorf("%v: exit code %d", s, code)
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("%v: %v is left, %v", s, left, err)
		}
		eventually(t, "no session", func() bool { return outputOf(t, socket, "sessions", "-q") == "" })
		if left := outputOf(t, socket, "grants", "-q"); left != "" {
			t.Errorf("%v: grant %s is left", s, left)
		}
	}
}

// TestSSHForgetsItsKeyFirst looks for the key when guestctl asks the agent to
// take the grant back, to which no agent may answer.
func TestSSHForgetsItsKeyFirst(t *testing.T) {
	socket, tmp := newAgent(t), t.TempDir()
	asks := make(chan struct{}, 1) // after it was made, and read, once
	var watched atomic.Bool
	between := onWayTo(t, socket, func() {
		if watched.CompareAndSwap(true, false) {
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
			asks <- struct{}{}
		}
	})
	cmd := sshIn(t, between, tmp, "ssh", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a session", func() bool { return outputOf(t, socket, "sessions", "-q") != "" })
	watched.Store(true)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(t, cmd.Wait()); code != exitBroken && code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", code)
	}
	select {
	case <-asks:
	default:
		t.Error("the agent was asked nothing")
	}
}

// onWayTo returns a socket beside the target from which connections are passed
// on, and calls sent before it passes on what a client sends.
func onWayTo(t *testing.T, target string, sent func()) (socket string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(target), "between"))
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", target)
			if err != nil {
				near.Close()
				continue
			}
			passing.Go(func() {
				_, _ = io.Copy(near, far)
				near.Close()
			})
			passing.Go(func() {
				_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
					sent()
					return far.Write(b)
				}), near)
				far.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		passing.Wait()
	})
	return l.Addr().String()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestRevokeEndsSSH(t *testing.T) {
	socket, tmp := newAgent(t), t.TempDir()
	cmd := sshIn(t, socket, tmp, "ssh", "--connections", "2", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a session", func() bool { return outputOf(t, socket, "sessions", "-q") != "" })
	outputOf(t, socket, "revoke", strings.TrimSpace(outputOf(t, socket, "grants", "-q")))
	if code := exitCodeOf(t, cmd.Wait()); code != exitBroken {
		t.Errorf("exit code %d", code)
	}
}

// onlyEntry is the path of the one thing that is in a directory.
func onlyEntry(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%s: %v, %v", dir, entries, err)
	}
	return filepath.Join(dir, entries[0].Name())
}

// TestSSHProxyEnds ends either side first.
func TestSSHProxyEnds(t *testing.T) {
	socket := newAgent(t)
	cmd := guestctl(t, socket, "ssh-proxy", "unix:"+filepath.Join(filepath.Dir(socket), doorName))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil { // the server takes its leave
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(out.String(), "SSH-2.0-") {
		t.Errorf("%q, %v", out.String(), err)
	}

	cmd = guestctl(t, socket, "ssh-proxy", "unix:"+filepath.Join(filepath.Dir(socket), doorName))
	if stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("no SSH\r\n" + strings.Repeat("x", 1<<16) + "\r\n")); err != nil {
		t.Log(err) // it may be gone already
	}
	if err := cmd.Wait(); err != nil && exitCodeOf(t, err) != exitBroken {
		t.Error(err)
	}
}
