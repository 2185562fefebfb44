//go:build linux

package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// The test binary is also the ProxyCommand of the ssh clients.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "proxy" {
		os.Exit(proxy(os.Args[2]))
	}
	descriptors := countDescriptors()
	code := m.Run()
	if err := leaks(descriptors); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "leaked:", err)
		code = 1
	}
	os.Exit(code)
}

// proxy splices standard input and output with a unix socket.
func proxy(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, c)
	return 0
}

// leaks waits for every goroutine of this package and of x/crypto/ssh to end,
// and for every descriptor to be closed.
func leaks(descriptors int) error {
	var stacks []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stacks = make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if bytes.Contains(stacks, []byte("guestd/sshd.(")) || bytes.Contains(stacks, []byte("crypto/ssh.(")) {
			continue
		}
		// The runtime's poller has some that it opens when they are needed.
		if countDescriptors() <= descriptors+pollerDescriptors {
			return nil
		}
		stacks = fmt.Appendf(nil, "%d descriptors, %d before", countDescriptors(), descriptors)
	}
	return errors.New(string(stacks))
}

const pollerDescriptors = 3

func countDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// A lab is a running server and what clients of it need.
type lab struct {
	t      *testing.T
	server *Server
	store  *access.Store
	table  *proc.Table
	socket string
	dir    string
	log    syncBuffer
}

type labOption func(*Config)

// newLab serves on a unix socket until the end of the test, and then looks for
// what was left behind.
func newLab(t *testing.T, options ...labOption) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lab{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	if l.store, err = access.New(access.Config{}); err != nil {
		t.Fatal(err)
	}
	if l.table, err = proc.NewTable(proc.Config{}); err != nil {
		t.Fatal(err)
	}
	files, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Access: l.store, Processes: l.table, Files: files, Version: "test",
		Logger: slog.New(slog.NewTextHandler(&l.log, nil)),
	}
	for _, o := range options {
		o(&config)
	}
	if l.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.server.Serve(listener) }()
	t.Cleanup(func() {
		_ = l.server.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		_ = l.store.Close()
		_ = l.table.Close()
		if t.Failed() {
			t.Logf("server's log:\n%s", l.log.String())
		}
	})
	return l
}

// A syncBuffer may be read while somebody writes to it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func me(t testing.TB) *user.User {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// newKey makes a key of the OpenSSH form in the lab's directory.
func (l *lab) newKey() (signer ssh.Signer, file string) {
	l.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		l.t.Fatal(err)
	}
	file = filepath.Join(l.dir, "key-"+rand.Text())
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(private); err != nil {
		l.t.Fatal(err)
	}
	return signer, file
}

// withHome keeps the start-up files of whoever runs the tests out of them: they
// may take minutes, as pyenv's do where two shells begin at once. Where the grant
// has an environment, and so the real home, bash takes itself for a shell within
// one, which reads none of them.
func (l *lab) withHome(g access.Grant) access.Grant {
	if g.Env == nil {
		g.Env = []string{"HOME=" + l.dir}
	} else {
		g.Env = append(slices.Clip(g.Env), "SHLVL=1")
	}
	return g
}

// grantSecret grants a new secret user name.
func (l *lab) grantSecret(g access.Grant) string {
	l.t.Helper()
	g = l.withHome(g)
	secret := strings.ToLower(rand.Text())
	hash := sha256.Sum256([]byte(secret))
	g.SecretHash = hash[:]
	if _, err := l.store.Grant(g); err != nil {
		l.t.Fatal(err)
	}
	return secret
}

// ssh is the real client, with a new key that is granted as g says.
func (l *lab) ssh(g access.Grant, args ...string) *exec.Cmd {
	l.t.Helper()
	g = l.withHome(g)
	signer, key := l.newKey()
	g.Key = signer.PublicKey().Marshal()
	if g.User == "" {
		g.User = me(l.t).Username
	}
	if _, err := l.store.Grant(g); err != nil {
		l.t.Fatal(err)
	}
	return l.client(append([]string{"-i", key, g.User + "@guest"}, args...)...)
}

// options are the real client's.
func (l *lab) options() []string {
	known := filepath.Join(l.dir, "known_hosts")
	if _, err := os.Stat(known); err != nil {
		line := "guest " + string(ssh.MarshalAuthorizedKey(l.server.hostKey.PublicKey()))
		if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	return []string{
		"-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + known, "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
		"-o", "ProxyCommand=" + self(l.t) + " proxy " + l.socket,
	}
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// client is the real client with the lab's options in front of args.
func (l *lab) client(args ...string) *exec.Cmd {
	l.t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		l.t.Skip("no ssh client: apt-get install openssh-client")
	}
	cmd := exec.CommandContext(l.t.Context(), "ssh", append(l.options(), args...)...)
	cmd.WaitDelay = patience
	return cmd
}

// outcome is what a client printed and how it ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs a client to its end.
func run(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// interrupt ends the real client as Ctrl-C does, and waits for its end. A signal
// that comes between its look for signals and its wait for anything else is seen
// when it wakes up again, which may take minutes; or with the next signal.
func interrupt(cmd *exec.Cmd) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	for {
		_ = cmd.Process.Signal(os.Interrupt) // fails if it has ended
		select {
		case <-ended:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dial connects Go's client with a secret that is granted as g says.
func (l *lab) dial(g access.Grant) *ssh.Client {
	l.t.Helper()
	c, err := l.tryDial(l.grantSecret(g))
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

func (l *lab) tryDial(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	l.t.Helper()
	return l.dialAs("", user, auth...)
}

// dialAs connects a client of that name, and of Go's where it is empty.
func (l *lab) dialAs(client, user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	nc, err := net.Dial("unix", l.socket)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(l.server.hostKey.PublicKey()),
		ClientVersion: client,
	}
	conn, channels, requests, err := ssh.NewClientConn(nc, "guest", config)
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := ssh.NewClient(conn, channels, requests)
	l.t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

// eventually waits for what must become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within %v", what, patience)
}

// dialSoon connects to a socket as soon as somebody listens on it: its file is
// there a moment before.
func dialSoon(t testing.TB, path string) (c net.Conn) {
	t.Helper()
	eventually(t, path+" is listened on", func() (ok bool) {
		var err error
		c, err = net.Dial("unix", path)
		return err == nil
	})
	return c
}

// quiet waits until no connection and no session is left.
func (l *lab) quiet() {
	l.t.Helper()
	eventually(l.t, "connections end", func() bool {
		return len(l.store.Connections()) == 0 && l.server.sessions.unused() &&
			l.server.descriptors.unused() && l.server.memory.unused()
	})
}

// unused reports whether all that was taken has been given back.
func (b *budget) unused() bool { return b.left.Load() == int64(b.whole) }

// within is a context that ends before patience does.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
