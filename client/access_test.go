//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/access/accesstest"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// sshGuest is an agent with an SSH door, both in this process.
type sshGuest struct {
	*client.Client
	store *access.Store
	dial  func(ctx context.Context) (net.Conn, error) // to the SSH door
}

func liveSSH(t *testing.T) *sshGuest {
	t.Helper()
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := liveAgent(t, agent.Config{Access: store}, client.Config{})
	return &sshGuest{c, store, openDoor(t, store)}
}

// openDoor serves SSH on a unix socket and returns how to connect to it.
func openDoor(t *testing.T, store *access.Store) func(ctx context.Context) (net.Conn, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssh") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	door, err := accesstest.Open(l, store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := door.Close(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

// sshKey is a fresh key.
func sshKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// login connects to the door as any SSH client would.
func (g *sshGuest) login(t *testing.T, user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	t.Helper()
	key, err := g.HostKey(within(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := g.dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	transport, channels, requests, err := ssh.NewClientConn(conn, "guest", &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(key),
	})
	if err != nil {
		return nil, err
	}
	c := ssh.NewClient(transport, channels, requests)
	t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

func TestGrant(t *testing.T) {
	g, ctx := liveSSH(t), within(t)
	signer := sshKey(t)
	asked := client.Grant{
		ID: "g", Key: signer.PublicKey(), User: "ann", TTL: time.Hour, MaxConnections: 2, Label: "laptop", Command: "date",
		Env: []string{"A=1", "B=\xff"}, Client: netip.MustParseAddrPort("192.0.2.1:4711"),
		Permissions: &client.SSHPermissions{Exec: true, LocalTCP: client.SSHForwarding{Allowed: true, Targets: []string{"*:80"}}},
	}
	info, err := g.Grant(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != "g" || info.User != "ann" || info.Label != "laptop" || info.MaxConnections != 2 || info.Client != asked.Client ||
		info.Command != "date" || info.Fingerprint != ssh.FingerprintSHA256(asked.Key) || info.Expires.Sub(info.Created) != time.Hour ||
		!info.Permissions.Exec || info.Permissions.Shell || info.Permissions.LocalTCP.Targets[0] != "*:80" {
		t.Errorf("granted %+v", info)
	}
	if key, err := g.HostKey(ctx); err != nil || !bytes.Equal(key.Marshal(), info.HostKey.Marshal()) {
		t.Errorf("host key %v, %v", key, err)
	}
	if _, err := g.Grant(ctx, asked); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := asked
	other.ID = "h"
	if _, err := g.Grant(ctx, other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same key in another grant: %v", err)
	}

	c, err := g.login(t, "ann", ssh.PublicKeys(signer))
	if err != nil {
		t.Fatal(err)
	}
	grants, err := g.Grants(ctx)
	if err != nil || len(grants) != 1 || grants[0].Used != 1 || grants[0].Live != 1 {
		t.Errorf("grants %+v, %v", grants, err)
	}
	sessions, err := g.SSHSessions(ctx)
	if err != nil || len(sessions) != 1 || sessions[0].Grant != "g" || sessions[0].User != "ann" || sessions[0].Client != asked.Client {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	if err := g.KillSSHSession(ctx, sessions[0].ID); err != nil {
		t.Error(err)
	}
	_ = c.Wait() // ends
	if err := g.KillSSHSession(ctx, "nonsense"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("killing nothing: %v", err)
	}

	second, err := g.login(t, "ann", ssh.PublicKeys(signer))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if revoked, err := g.Revoke(ctx, "g"); err != nil || !revoked.Revoked {
			t.Errorf("revoked %+v, %v", revoked, err)
		}
	}
	_ = second.Wait() // ends
	if _, err := g.Revoke(ctx, "nonsense"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("revoking nothing: %v", err)
	}
	if grants, err := g.Grants(ctx); err != nil || len(grants) != 0 {
		t.Errorf("grants %+v, %v", grants, err)
	}
}

func TestSecret(t *testing.T) {
	g, ctx := liveSSH(t), within(t)
	secret := client.NewSecret()
	if len(secret) != 26 || strings.Trim(secret, "abcdefghijklmnopqrstuvwxyz234567") != "" || secret == client.NewSecret() {
		t.Errorf("secret %q", secret)
	}
	info, err := g.Grant(ctx, client.Grant{Secret: secret, TTL: -1, MaxConnections: -1})
	if err != nil || info.MaxConnections >= 0 || !info.Expires.IsZero() || info.Fingerprint != "" {
		t.Fatalf("granted %+v, %v", info, err)
	}
	for range 2 {
		if _, err := g.login(t, secret); err != nil {
			t.Error(err)
		}
	}
	if _, err := g.login(t, client.NewSecret()); err == nil {
		t.Error("another secret lets in")
	}
}

func TestGrantIsChecked(t *testing.T) {
	g, ctx := liveSSH(t), within(t)
	key := sshKey(t).PublicKey()
	for name, bad := range map[string]client.Grant{
		"no credential":  {},
		"two":            {Key: key, Secret: "x"},
		"half a hash":    {SecretHash: []byte("x")},
		"not UTF-8":      {Key: key, Label: "\xff"},
		"target":         {Key: key, Permissions: &client.SSHPermissions{LocalTCP: client.SSHForwarding{Allowed: true, Targets: []string{"\xff"}}}},
		"no environment": {Key: key, Env: []string{"x"}},
		"user":           {Key: key, User: "a/b"},
		"id":             {Key: key, ID: "-"},
	} {
		if _, err := g.Grant(ctx, bad); !errors.Is(err, client.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAgentWithoutSSH(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	if _, err := c.Grant(ctx, client.Grant{Secret: "x"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("grant: %v", err)
	}
	if _, err := c.WatchSSH(ctx, client.SSHWatchOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("watch: %v", err)
	}
	if _, err := c.HostKey(ctx); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("host key: %v", err)
	}
}

func TestWatchSSH(t *testing.T) {
	g, ctx := liveSSH(t), within(t)
	watching, cancel := context.WithCancel(ctx)
	w, err := g.WatchSSH(watching, client.SSHWatchOptions{Asciicast: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	next := func(want client.SSHEventType) client.SSHEvent {
		t.Helper()
		e, err := w.Next()
		if err != nil || e.Type != want {
			t.Fatalf("event %+v, %v, want %v", e, err, want)
		}
		return e
	}
	signer := sshKey(t)
	if _, err := g.Grant(ctx, client.Grant{ID: "g", Key: signer.PublicKey(), User: "ann", Label: "laptop"}); err != nil {
		t.Fatal(err)
	}
	next(client.SSHGranted)
	c, err := g.login(t, "ann", ssh.PublicKeys(signer))
	if err != nil {
		t.Fatal(err)
	}
	connected := next(client.SSHConnected)
	if connected.Grant != "g" || connected.User != "ann" || connected.Label != "laptop" || connected.Session == "" {
		t.Errorf("connected: %+v", connected)
	}
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.Output("echo hello"); err != nil || string(out) != "hello\n" {
		t.Errorf("output %q, %v", out, err)
	}
	if e := next(client.SSHExec); e.Command != "echo hello" || e.Session != connected.Session || e.Type.String() != "exec" {
		t.Errorf("exec: %+v", e)
	}
	_ = c.Close()
	if e := next(client.SSHClosed); e.Session != connected.Session {
		t.Errorf("closed: %+v", e)
	}

	// The terminal of a connection that the door of the tests cannot have.
	if _, err := g.Grant(ctx, client.Grant{Secret: "tty"}); err != nil {
		t.Fatal(err)
	}
	next(client.SSHGranted)
	conn, err := g.store.Connect("test")
	if err == nil {
		_, err = conn.AuthenticateSecret("tty")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	next(client.SSHConnected)
	conn.Record(access.Event{Kind: access.EventTerminal, Session: "1", Terminal: &access.TerminalEvent{Start: true, Rows: 24, Cols: 80}})
	if e := next(client.SSHTerminal); !strings.HasPrefix(string(e.Terminal.Cast), `{"version":2,"width":80,"height":24,`) {
		t.Errorf("terminal: %+v", e.Terminal)
	}

	cancel()
	for e, err := range w.Events() {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %+v, %v", e, err)
		}
	}
}

func TestDialSSH(t *testing.T) {
	g, ctx := liveSSH(t), within(t)
	c, err := g.DialSSH(ctx, g.dial, client.Grant{Label: "test"})
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Stdin = strings.NewReader("to and fro")
	out, err := session.Output("cat; exit 3")
	var exit *ssh.ExitError
	if string(out) != "to and fro" || !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("output %q, %v", out, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for len(g.store.Grants()) > 0 { // until the door has seen the end
		if ctx.Err() != nil {
			t.Fatal("the grant is still there")
		}
		runtime.Gosched()
	}
	if _, err := g.DialSSH(ctx, g.dial, client.Grant{Secret: "x"}); !errors.Is(err, client.ErrInvalidRequest) {
		t.Errorf("with a credential: %v", err)
	}
}

// A connection that does not come about leaves no credential.
func TestDialSSHFails(t *testing.T) {
	g := liveSSH(t)
	down := errors.New("the door is not there")
	silent := func(context.Context) (net.Conn, error) { // nobody answers
		near, far := net.Pipe()
		var reader sync.WaitGroup
		reader.Go(func() { _, _ = io.Copy(io.Discard, far) })
		t.Cleanup(reader.Wait)
		return near, nil
	}
	other, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	impostor := openDoor(t, other)
	short, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		dial func(context.Context) (net.Conn, error)
		want error
	}{
		{"no connection", within(t), func(context.Context) (net.Conn, error) { return nil, down }, down},
		{"no answer", short, silent, context.DeadlineExceeded},
		{"another machine", within(t), impostor, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := g.DialSSH(test.ctx, test.dial, client.Grant{})
			if err == nil {
				_ = c.Close()
				t.Fatal("it succeeded")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if grants := g.store.Grants(); len(grants) != 0 {
				t.Errorf("grants are left: %+v", grants)
			}
		})
	}
}

// A grant that was made is not left behind when its answer comes too late.
func TestDialSSHGivenUp(t *testing.T) {
	store, err := access.New(access.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	late := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if method != guestdv1.AccessService_CreateGrant_FullMethodName {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		if err := invoke(context.WithoutCancel(ctx), method, req, reply, cc, opts...); err != nil {
			return err
		}
		cancel()
		return status.FromContextError(ctx.Err()).Err()
	}
	c, _ := liveAgent(t, agent.Config{Access: store}, client.Config{DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(late)}})
	dial := func(context.Context) (net.Conn, error) {
		t.Error("it is dialed")
		return nil, net.ErrClosed
	}
	if _, err := c.DialSSH(ctx, dial, client.Grant{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if grants := store.Grants(); len(grants) != 0 {
		t.Errorf("grants are left: %+v", grants)
	}
}
