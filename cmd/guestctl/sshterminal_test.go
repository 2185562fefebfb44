//go:build linux

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd"
)

// TestSSHOnATerminal uses the real SSH server from a terminal, and records it.
func TestSSHOnATerminal(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("there is no ssh on this machine")
	}
	socket, door := serveBoth(t)
	tmp, cast := t.TempDir(), filepath.Join(t.TempDir(), "demo.cast")
	t.Setenv(doorVariable, "unix:"+door)
	t.Setenv("TMPDIR", tmp)
	// Granted, connected, started, ended, closed.
	lines, ended := startAudit(t, socket, "--record", cast, "-n", "5")

	c := onTerminal(t, socket, "ssh", "-t", "stty size; cat; stty size; exit 6")
	c.sees("30 90")
	c.types("hello\n")
	c.sees("hello\r\nhello\r\n") // the echo, and cat's
	if err := pty.Setsize(c.master, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	c.types("\x04")
	if code := exitCodeOf(t, c.cmd.Wait()); code != 6 {
		t.Errorf("exit code %d", code)
	}
	if after := c.modes(); after != c.before {
		t.Errorf("the terminal's modes were %+v and are %+v", c.before, after)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}

	for _, want := range []string{" granted ", " connected ", " exec ", " ended ", " closed "} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("audit prints %q instead of%s", lines.Text(), want)
		}
	}
	if err := ended(); err != nil {
		t.Fatal(err)
	}
	recording, err := os.ReadFile(cast)
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := strings.Cut(string(recording), "\n")
	if !strings.HasPrefix(header, `{"version":2,"width":90,"height":30,`) {
		t.Errorf("the recording begins with %s", header)
	}
	for _, want := range []string{"30 90", "hello"} {
		if !strings.Contains(rest, want) {
			t.Errorf("%s is not in the recording:\n%s", want, rest)
		}
	}
}

// serveBoth serves an agent and a real SSH server, and returns their sockets.
func serveBoth(t *testing.T) (socket, door string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "guestctl") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	processes, err := proc.NewTable(proc.Config{
		Shim: []string{"/proc/self/exe", shimCommand},
		Env:  []string{"HOME=" + dir}, // without the start-up files of whoever runs the tests
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := agent.New(agent.Config{Processes: processes, Files: files, Access: store})
	if err != nil {
		t.Fatal(err)
	}
	people, err := sshd.New(sshd.Config{Access: store, Processes: processes, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	socket, door = filepath.Join(dir, "agent"), filepath.Join(dir, doorName)
	served := make(chan error, 2)
	for path, serve := range map[string]func(net.Listener) error{socket: server.Serve, door: people.Serve} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- serve(l) }()
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), people.Close(), store.Close(), processes.Close()); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-served; !errors.Is(err, agent.ErrServerClosed) && !errors.Is(err, sshd.ErrServerClosed) {
				t.Error(err)
			}
		}
	})
	return socket, door
}
