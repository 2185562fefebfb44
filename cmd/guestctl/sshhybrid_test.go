//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/access/accesstest"
	"github.com/guestd/guestd/internal/muxtest"
)

// TestSSHThroughAMultiplexer comes in as to Firecracker: the SSH server is at
// port 22 beside the agent, and its connections know no half-close.
func TestSSHThroughAMultiplexer(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("there is no ssh on this machine")
	}
	mux := serveHybrid(t)
	run := func(program string, args ...string) (string, int) {
		t.Helper()
		cmd := guestctl(t, "", args...)
		if program != "guestctl" {
			cmd = exec.CommandContext(t.Context(), program, args...)
			cmd.Env = os.Environ()
		}
		cmd.Env = append(cmd.Env, agentVariable+"="+mux.Addr(1024).String(), doorVariable+"=", "XDG_DATA_HOME="+t.TempDir())
		var stdout, stderr bytes.Buffer
		cmd.Stdin = bytes.NewReader(bytes.Repeat([]byte("x"), 1<<20))
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		code := exitCodeOf(t, cmd.Run())
		if stderr.Len() > 0 {
			t.Log(stderr.String())
		}
		return stdout.String(), code
	}
	if out, code := run("guestctl", "ssh", "wc -c; exit 4"); out != "1048576\n" || code != 4 {
		t.Errorf("guestctl ssh: %q, %d", out, code)
	}
	config, code := run("guestctl", "ssh-config", "vm")
	if code != 0 {
		t.Fatalf("guestctl ssh-config: %d", code)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(config); err != nil {
		t.Fatal(err)
	}
	if out, code := run("ssh", "-F", file.Name(), "vm", "wc -c; exit 5"); out != "1048576\n" || code != 5 {
		t.Errorf("ssh with the block of ssh-config: %q, %d", out, code)
	}
}

// serveHybrid serves an agent and an SSH server behind a multiplexer.
func serveHybrid(t *testing.T) *muxtest.Mux {
	t.Helper()
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := agent.New(agent.Config{Access: store})
	if err != nil {
		t.Fatal(err)
	}
	mux := muxtest.Start(t, muxtest.Config{SplitReply: true})
	served := make(chan error, 1)
	go func() { served <- server.Serve(mux.Listen(1024)) }()
	door, err := accesstest.Open(mux.Listen(doorPort), store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), door.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, agent.ErrServerClosed) {
			t.Error(err)
		}
	})
	return mux
}
