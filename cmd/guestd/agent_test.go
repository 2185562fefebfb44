//go:build linux

package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/client"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// testAgent is a `guestd serve` of its own process, with both doors.
type testAgent struct {
	t      *testing.T
	ctx    context.Context // the test's
	cmd    *exec.Cmd
	log    bytes.Buffer
	socket string
	client *client.Client
}

// startAgent starts one that ends with the test. It is run by the shell after
// setup, a script.
func startAgent(t *testing.T, setup string) *testAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "guestd") // the paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	a := &testAgent{t: t, ctx: ctx, socket: filepath.Join(dir, "s")}
	script := setup + "\nexec guestd serve --listen unix:$0 --ssh unix:$0.ssh"
	a.cmd = exec.CommandContext(ctx, "sh", "-e", "-c", script, a.socket)
	a.cmd.Stderr = &a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.end() })
	if a.client, err = client.New(dialer(a.socket), client.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.client.Close() })
	if err := a.client.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

func dialer(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
}

// ssh comes in by the other door.
func (a *testAgent) ssh() *ssh.Client {
	a.t.Helper()
	// Without the start-up files of whoever runs the tests.
	grant := client.Grant{Env: []string{"HOME=" + filepath.Dir(a.socket)}}
	c, err := a.client.DialSSH(a.ctx, dialer(a.socket+".ssh"), grant)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = c.Close() })
	return c
}

// sh runs a script by gRPC and returns what it prints.
func (a *testAgent) sh(script string) string {
	a.t.Helper()
	out, err := a.client.Shell(script).Output(a.ctx)
	if err != nil {
		a.t.Errorf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out))
}

// end ends the agent as an init would, and returns how it ended and what it had
// to say.
func (a *testAgent) end() (*os.ProcessState, string) {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		_ = a.cmd.Wait()
	}
	return a.cmd.ProcessState, a.log.String()
}
