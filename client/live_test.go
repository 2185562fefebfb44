//go:build linux

package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/client"
)

// line is the connection between a client and its agent, which tests can cut.
type line struct {
	dial func(ctx context.Context) (net.Conn, error)

	mu     sync.Mutex
	conns  map[*cutConn]bool
	budget []int // bytes after which the next connections break
	limits []int // the same for bytes sent
	down   bool
	dials  int
	failed int   // dials while it was down
	in     int64 // bytes received
	out    int64 // bytes sent
}

// cutConn breaks after it has received or sent so many bytes; 0: it does not.
type cutConn struct {
	net.Conn
	line  *line
	left  int
	limit int
}

func (l *line) connect(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	if down {
		l.failed++
	}
	l.mu.Unlock()
	if down {
		return nil, errors.New("line is down")
	}
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials++
	c := &cutConn{Conn: conn, line: l}
	if len(l.budget) > 0 {
		c.left, l.budget = l.budget[0], l.budget[1:]
	}
	if len(l.limits) > 0 {
		c.limit, l.limits = l.limits[0], l.limits[1:]
	}
	l.conns[c] = true
	return c, nil
}

// Read gives at most what is left before the cut, at which the connection is
// gone, in both directions and without a word.
func (c *cutConn) Read(b []byte) (int, error) {
	if c.left > 0 && len(b) > c.left {
		b = b[:c.left]
	}
	n, err := c.Conn.Read(b)
	c.line.mu.Lock()
	c.line.in += int64(n)
	c.line.mu.Unlock()
	if c.left > 0 {
		if c.left -= n; c.left == 0 {
			_ = c.Close()
		}
	}
	return n, err
}

// Write is the same for what is sent.
func (c *cutConn) Write(b []byte) (int, error) {
	cut := c.limit > 0 && len(b) >= c.limit
	if cut {
		b = b[:c.limit]
	}
	n, err := c.Conn.Write(b)
	c.line.mu.Lock()
	c.line.out += int64(n)
	c.line.mu.Unlock()
	if cut {
		_ = c.Close()
		return n, net.ErrClosed
	}
	if c.limit > 0 {
		c.limit -= n
	}
	return n, err
}

func (c *cutConn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}

// cut breaks every connection that there is.
func (l *line) cut() {
	l.mu.Lock()
	var conns []*cutConn
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// cutAfter breaks the present connections, the next one after so many bytes,
// and so on.
func (l *line) cutAfter(bytes ...int) {
	l.mu.Lock()
	l.budget = bytes
	l.mu.Unlock()
	l.cut()
}

// cutAfterSent is cutAfter for bytes sent.
func (l *line) cutAfterSent(bytes ...int) {
	l.mu.Lock()
	l.limits = bytes
	l.mu.Unlock()
	l.cut()
}

func (l *line) received() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in
}

func (l *line) sent() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out
}

func (l *line) setDown(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	if down {
		l.cut()
	}
}

// failures is how many dials have failed because the line was down.
func (l *line) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *line) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials
}

// live returns a client of an agent in this process, over a unix socket. Both
// are gone after the test, without leaving a goroutine.
func live(t testing.TB) (*client.Client, *line) {
	t.Helper()
	return liveWith(t, client.Config{})
}

func liveWith(t testing.TB, config client.Config) (*client.Client, *line) {
	t.Helper()
	return liveAgent(t, agent.Config{}, config)
}

// liveAgent is liveWith for an agent that is configured.
func liveAgent(t testing.TB, agentConfig agent.Config, config client.Config) (*client.Client, *line) {
	t.Helper()
	before := goroutines()
	// A socket's path is short.
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		t.Fatal(err)
	}
	server, err := agent.New(agentConfig)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	l := &line{conns: make(map[*cutConn]bool)}
	l.dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	c, err := client.New(l.connect, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, agent.ErrServerClosed) {
			t.Error(err)
		}
		os.RemoveAll(dir)
		expectNoMore(t, before)
	})
	return c, l
}

// goroutines counts by stack, without those of the test runner.
func goroutines() map[string]int {
	b := make([]byte, 4<<20)
	b = b[:runtime.Stack(b, true)]
	count := make(map[string]int)
	for stack := range strings.SplitSeq(string(b), "\n\n") {
		if !strings.Contains(stack, "guestd/") && !strings.Contains(stack, "google.golang.org/grpc") ||
			strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "client_test.goroutines") {
			continue
		}
		// Without the number, the state and the addresses.
		var functions []string
		for text := range strings.SplitSeq(stack, "\n") {
			if name, _, ok := strings.Cut(text, "("); ok && !strings.HasPrefix(text, "\t") {
				functions = append(functions, name)
			}
		}
		count[strings.Join(functions, " < ")]++
	}
	return count
}

// expectNoMore waits until there are no more goroutines than before: some need
// a moment to see that everything is closed.
func expectNoMore(t testing.TB, before map[string]int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var more []string
		for stack, n := range goroutines() {
			if n > before[stack] {
				more = append(more, stack)
			}
		}
		if len(more) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("goroutines are left:\n%s", strings.Join(more, "\n"))
			return
		}
		runtime.Gosched()
		time.Sleep(5 * time.Millisecond)
	}
}

// within is a context for one test, which is generous: machines are slow.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// sh is Client.Shell with a shell that is the same for every user.
func sh(c *client.Client, script string) *client.Cmd {
	cmd := c.Shell(script)
	cmd.Shell = "/bin/sh"
	return cmd
}

// closeLater closes what a test opened before its client is closed.
func closeLater(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
