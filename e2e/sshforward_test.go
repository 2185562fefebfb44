//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// testForwarding sends through -L to a server in the guest, and through -R to
// one here.
func (h *sshHost) testForwarding(t *testing.T) {
	const inGuest, fromGuest = 17001, 17002
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	server, err := h.client.Start(ctx, client.Spec{Args: []string{"nc", "-ll", "-p", strconv.Itoa(inGuest), "-e", "/bin/cat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Kill(ctx); err != nil {
			t.Error(err)
		}
	}()
	if _, err := h.client.WaitFor(ctx, client.WaitPort{Port: inGuest}); err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(h.dir, "l")
	back := echoServer(t, "tcp", "127.0.0.1:0")
	h.start(t, h.guestctl("ssh", "-u", "ann", "-N", "-L", fmt.Sprintf("%s:127.0.0.1:%d", here, inGuest),
		"-R", fmt.Sprintf("%d:%s", fromGuest, back), "-o", "ExitOnForwardFailure=yes"), here)
	data := random(1 << 20)
	if got := exchange(t, here, data); !bytes.Equal(got, data) {
		t.Errorf("-L brought %d bytes back of %d", len(got), len(data))
	}
	// -L says nothing about -R, which may be later.
	if _, err := h.client.WaitFor(ctx, client.WaitPort{Port: fromGuest}); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, h.client, "echo to the host and back | nc 127.0.0.1 "+strconv.Itoa(fromGuest)); got != "to the host and back" {
		t.Errorf("-R brought back %q", got)
	}
}

// testUnixSockets joins -L and -R in the guest: out of a socket there comes what
// went into one here.
func (h *sshHost) testUnixSockets(t *testing.T) {
	here, there := filepath.Join(h.dir, "u"), "/tmp/e2e-ssh.sock"
	back := echoServer(t, "unix", filepath.Join(h.dir, "e"))
	h.start(t, h.guestctl("ssh", "-N", "-R", there+":"+back, "-L", here+":"+there, "-o", "ExitOnForwardFailure=yes"), here)
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	if _, err := h.client.WaitFor(ctx, client.WaitFile{Path: there}); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, h.client, "stat -c '%F %a %U' "+there); got != "socket 600 root" {
		t.Errorf("the socket in the guest is %s", got)
	}
	data := random(1 << 20)
	if got := exchange(t, here, data); !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d", len(got), len(data))
	}
}

// testAgent asks for the keys of an agent here, from inside the guest: the
// question goes there over the session's input, and comes back over the agent's
// socket.
func (h *sshHost) testAgent(t *testing.T) {
	socket := filepath.Join(h.dir, "a")
	keys := h.command("ssh-agent", "-D", "-a", socket)
	h.start(t, keys, socket)
	withAgent := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+socket)
		return cmd
	}
	h.succeed(t, withAgent(h.command("ssh-add", "-q", h.newKey(t, "of the host"))))

	cmd := withAgent(h.guestctl("ssh", "-A", "-u", "ann",
		"stat -c '%F %a %U' $SSH_AUTH_SOCK >&2; exec guestctl ssh-proxy unix:$SSH_AUTH_SOCK"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(answerLimit, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop.Stop()
	list, err := agent.NewClient(struct {
		io.Reader
		io.Writer
	}{stdout, stdin}).List()
	if err != nil || len(list) != 1 || list[0].Comment != "of the host" {
		t.Errorf("the guest sees the keys %v, %v", list, err)
	}
	stdin.Close()
	h.wait(t, cmd)
	if code := cmd.ProcessState.ExitCode(); code != 0 || stderr.String() != "socket 600 ann\n" {
		t.Errorf("status %d, the socket is %q", code, stderr.String())
	}
	if got := h.succeed(t, withAgent(h.guestctl("ssh", "echo $SSH_AUTH_SOCK"))); got != "\n" {
		t.Errorf("without -A the guest has %q", got)
	}
}

// start starts a program that listens on a unix socket, and waits for that. The
// end of the test ends the program.
func (h *sshHost) start(t *testing.T, cmd *exec.Cmd, socket string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		for {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Second):
				// Just before OpenSSH's client waits, one signal is not enough.
			}
		}
	})
	until(t, "a socket at "+socket, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", cmd.Args, stderr.String())
		default:
		}
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// end ends a program that was started.
func (h *sshHost) end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Kill()
	h.wait(t, cmd)
}

// echoServer serves until the test ends, and returns where.
func echoServer(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn) // the test sees what is missing
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// exchange sends data to a unix socket, and its end, and returns all that comes.
func exchange(t *testing.T, socket string, data []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		if err == nil {
			err = vsock.CloseWrite(conn)
		}
		sent <- err
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	return got
}
