// Package conformance is the suite that guestd has to pass over every
// transport: a pipe, a unix socket, a VMM's multiplexer with its faults, and
// vsock into a real microVM. It knows the agent only through package client, as
// a host does, and the guest only through what it runs there: a POSIX shell
// and the tools that busybox and coreutils have in common.
package conformance

import (
	"context"
	"fmt"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// patience bounds each wait of the suite. It is generous: the machine may be an
// emulated one, under the race detector, beside other work.
const patience = 5 * time.Minute

// A Target is an agent to be tested.
type Target struct {
	// Dial connects to it.
	Dial func(context.Context) (net.Conn, error)

	// Slow is set for an emulated machine: what only takes long is done on a
	// smaller scale.
	Slow bool

	// User is somebody without rights in the guest, as UID:GID; empty if the
	// agent cannot switch users. The suite makes no entry for it.
	User string

	// Mounts is set where the guest's agent may mount filesystems.
	Mounts bool
}

// Run runs the whole suite against one agent. At its end nothing may be left in
// the agent: no process, descriptor or goroutine that was not there before.
func Run(t *testing.T, target Target) {
	s := newSuite(t, target)
	before := s.settled(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"System", s.system},
		{"Exec", s.exec},
		{"BadSpec", s.badSpec},
		{"Output", s.output},
		{"Signals", s.signals},
		{"Terminal", s.terminal},
		{"Lifetime", s.lifetime},
		{"Wait", s.wait},
		{"Limits", s.limits},
		{"Crowd", s.crowd},
		{"Files", s.files},
		{"BadFiles", s.badFiles},
		{"Writing", s.writing},
		{"Trees", s.trees},
		{"Handles", s.handles},
		{"Watch", s.watch},
		{"IOFS", s.iofs},
		{"Network", s.network},
		{"Connections", s.connections},
	} {
		t.Run(part.name, part.run)
	}
	s.forgetAll(t)
	s.client.Close()
	s.checkLeaks(t, before)
}

// suite is what the parts share.
type suite struct {
	target Target
	client *client.Client
	line   *line
	info   *guestdv1.GetInfoResponse
	dir    string // scratch directory in the guest, open to everybody
}

func newSuite(t *testing.T, target Target) *suite {
	s := &suite{target: target, line: &line{dial: target.Dial}}
	s.client = s.connect(t, s.line.connect)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.client.Ready(ctx); err != nil {
		t.Fatal("the agent does not answer:", err)
	}
	var err error
	if s.info, err = s.client.Info(ctx); err != nil {
		t.Fatal(err)
	}
	if s.dir, err = s.client.Files().MkdirTemp(ctx, "/tmp", "conformance-*"); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Files().Chmod(ctx, s.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := s.connect(t, target.Dial)
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := c.Files().RemoveAll(ctx, s.dir); err != nil {
			t.Error("the scratch directory stays:", err)
		}
	})
	return s
}

// connect returns a further client. The caller closes it.
func (s *suite) connect(t *testing.T, dial func(context.Context) (net.Conn, error)) *client.Client {
	t.Helper()
	c, err := client.New(dial, client.Config{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// context ends with the test, and in good time before the test binary's own
// deadline makes a riddle of it.
func (s *suite) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// path is a path in a fresh directory of the guest for this test.
func (s *suite) path(t *testing.T, name string) string {
	t.Helper()
	clean := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
	dir := path.Join(s.dir, clean)
	if err := s.client.Files().MkdirAll(s.context(t), dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Files().Chmod(s.context(t), dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return path.Join(dir, name)
}

// sh runs a script in the guest and returns its stdout without the last line
// end; any failure is the test's.
func (s *suite) sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	script := fmt.Sprintf(format, args...)
	out, err := s.client.Command("/bin/sh", "-c", script).Output(s.context(t))
	if err != nil {
		var exit *client.ExitError
		if asExit(err, &exit) {
			t.Fatalf("%s: %v\n%s", script, err, exit.Stderr)
		}
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// has says whether the guest has the controller for a limit.
func (s *suite) has(controller string) bool {
	for _, c := range s.info.GetCapabilities().GetCgroupControllers() {
		if c == controller {
			return true
		}
	}
	return false
}

func (s *suite) needUser(t *testing.T) string {
	t.Helper()
	if s.target.User == "" {
		t.Skip("the agent cannot switch users here")
	}
	return s.target.User
}

func (s *suite) needMounts(t *testing.T) {
	t.Helper()
	if !s.target.Mounts {
		t.Skip("the agent may not mount filesystems here")
	}
}

// eventually polls something in the guest that nothing tells about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// line dials, and can cut what it dialed.
type line struct {
	dial func(context.Context) (net.Conn, error)

	mu    sync.Mutex
	conns []net.Conn
}

func (l *line) connect(ctx context.Context) (net.Conn, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return conn, nil
}

// cut closes every connection without a word.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}
