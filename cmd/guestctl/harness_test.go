//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/access/accesstest"
	"github.com/guestd/guestd/proc"
)

const shimCommand = "exec-shim"

// raceOptions keep the race detector, where it is built in, from making every
// guestctl that ends sleep for a second first.
const raceOptions = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == shimCommand {
		fmt.Fprintln(os.Stderr, proc.ExecShim())
		os.Exit(1)
	}
	// The commands are in PATH for the scripts and for the tests in Go.
	testscript.Main(m, map[string]func(){"guestctl": main})
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// doorName is the SSH server's socket, beside the agent's.
const doorName = "ssh"

// serveAgent serves an agent of its own on a unix socket, and a small SSH server
// beside it, and returns the socket's path and how to stop both.
func serveAgent() (socket string, stop func() error, err error) {
	// The path of a socket is limited to 108 bytes.
	dir, err := os.MkdirTemp("", "guestctl")
	if err != nil {
		return "", nil, err
	}
	processes, err := proc.NewTable(proc.Config{Shim: []string{"/proc/self/exe", shimCommand}})
	if err != nil {
		return "", nil, err
	}
	store, err := access.New(access.Config{})
	if err != nil {
		return "", nil, err
	}
	server, err := agent.New(agent.Config{Processes: processes, Access: store, Version: "v0.0.0-test"})
	if err != nil {
		return "", nil, err
	}
	doorListener, err := net.Listen("unix", filepath.Join(dir, doorName))
	if err != nil {
		return "", nil, err
	}
	door, err := accesstest.Open(doorListener, store)
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return socket, func() error {
		defer os.RemoveAll(dir)
		err := server.Close()
		if end := <-served; !errors.Is(end, agent.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return errors.Join(err, door.Close(), processes.Close())
	}, nil
}

// newAgent is serveAgent for a test, which it outlives by nothing.
func newAgent(t *testing.T) (socket string) {
	t.Helper()
	socket, stop, err := serveAgent()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return socket
}

// guestctl is a command line to be run against the agent at a socket. It is
// killed when the test's patience is over.
func guestctl(t *testing.T, socket string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "guestctl", args...)
	cmd.Env = append(os.Environ(), agentVariable+"=unix:"+socket, "TERM=dumb", "GORACE="+raceOptions)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// output runs guestctl, which has to succeed, and returns its stdout.
func outputOf(t *testing.T, socket string, args ...string) string {
	t.Helper()
	cmd := guestctl(t, socket, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("guestctl %q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// exitCodeOf is the code of an ended command; -1 for one that a signal ended.
func exitCodeOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// cutter passes connections on to a socket and breaks each after so many bytes
// towards one side; 0 never.
type cutter struct {
	listener net.Listener
	target   string
	conns    sync.WaitGroup

	passed  atomic.Int64 // bytes, both ways
	mu      sync.Mutex
	budgets []int64 // of the next connections
	once    bool    // nothing is passed on after the first connection
	up      bool    // budgets count what the client sends, not what it gets
	open    map[net.Conn]bool
}

// newCutter listens on a socket beside the target. With once there is but one
// connection.
func newCutter(target string, up, once bool, budgets ...int64) (*cutter, error) {
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(target), "cutter"))
	if err != nil {
		return nil, err
	}
	c := &cutter{listener: l, target: target, budgets: budgets, up: up, once: once, open: make(map[net.Conn]bool)}
	c.conns.Go(c.serve)
	return c, nil
}

func (c *cutter) socket() string { return c.listener.Addr().String() }

func (c *cutter) serve() {
	for first := true; ; first = false {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		if c.once && !first {
			near.Close()
			continue
		}
		far, err := net.Dial("unix", c.target)
		if err != nil {
			near.Close()
			continue
		}
		c.mu.Lock()
		var budget int64
		if len(c.budgets) > 0 {
			budget, c.budgets = c.budgets[0], c.budgets[1:]
		}
		c.open[near], c.open[far] = true, true
		c.mu.Unlock()
		down, up := budget, int64(0)
		if c.up {
			down, up = 0, budget
		}
		c.conns.Go(func() { c.pass(near, far, down) })
		c.conns.Go(func() { c.pass(far, near, up) })
	}
}

// pass copies until the budget is used up, then breaks both connections.
func (c *cutter) pass(to, from net.Conn, budget int64) {
	var r io.Reader = from
	if budget > 0 {
		r = io.LimitReader(from, budget)
	}
	n, _ := io.Copy(to, r)
	c.passed.Add(n)
	c.mu.Lock()
	delete(c.open, to)
	delete(c.open, from)
	c.mu.Unlock()
	to.Close()
	from.Close()
}

// cut breaks what is connected.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}

func (c *cutter) close() {
	c.listener.Close()
	c.cut()
	c.conns.Wait()
}

// scriptCommands are the scripts' own commands.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"code":    scriptCode,
		"json":    scriptJSON,
		"random":  scriptRandom,
		"waitfor": scriptWaitFor,
		"cutter":  scriptCutter,
		"samefs":  scriptSame,
		"other":   scriptOther,
		"gone":    scriptGone,
	}
}

// scriptCode is `code N COMMAND ARG...`: it runs a command that has to exit with
// code N.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

// scriptJSON is `json FILE PATH REGEXP`: the JSON value at a path like .0.exit.code
// in a file or "stdout" has to match, as JSON; `! json FILE PATH`: there is none.
// FILE may hold several values, which are then an array.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg && len(args) != 2 || !neg && len(args) != 3 {
		ts.Fatalf("usage: json FILE PATH REGEXP, or ! json FILE PATH")
	}
	value, found, err := jsonAt(ts.ReadFile(args[0]), args[1])
	ts.Check(err)
	switch {
	case neg && found:
		ts.Fatalf("%s is %s", args[1], value)
	case !neg && !found:
		ts.Fatalf("%s: there is none", args[1])
	case !neg && !regexp.MustCompile(args[2]).MatchString(value):
		ts.Fatalf("%s is %s, which does not match %s", args[1], value, args[2])
	}
}

func jsonAt(text, path string) (value string, found bool, err error) {
	var values []any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	for {
		var v any
		if err := decoder.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", false, fmt.Errorf("not JSON: %w", err)
		}
		values = append(values, v)
	}
	var at any = values
	if len(values) == 1 {
		at = values[0]
	}
	for key := range strings.SplitSeq(strings.Trim(path, "."), ".") {
		switch v := at.(type) {
		case map[string]any:
			at, found = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if found = err == nil && i >= 0 && i < len(v); found {
				at = v[i]
			}
		default:
			found = false
		}
		if key == "" {
			found = true
		}
		if !found {
			return "", false, nil
		}
	}
	out, err := json.Marshal(at)
	return string(out), true, err
}

// scriptRandom is `random FILE BYTES`.
func scriptRandom(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, size)
	state := uint32(size) | 1
	for i := range data {
		state = state*1664525 + 1013904223
		data[i] = byte(state >> 24)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// scriptWaitFor is `waitfor PATH`: it goes on when PATH exists.
func scriptWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear", args[0])
}

// scriptCutter is `cutter up|down BYTES...`: it sets CUT to an address whose
// connections break after so many bytes in that direction.
func scriptCutter(ts *testscript.TestScript, _ bool, args []string) {
	var budgets []int64
	for _, arg := range args[1:] {
		n, err := strconv.ParseInt(arg, 10, 64)
		ts.Check(err)
		budgets = append(budgets, n)
	}
	c, err := newCutter(strings.TrimPrefix(ts.Getenv(agentVariable), "unix:"), args[0] == "up", false, budgets...)
	ts.Check(err)
	ts.Defer(c.close)
	ts.Setenv("CUT", "unix:"+c.socket())
}

// scriptGone is `gone COMMAND ARG...`: it runs a command until it prints nothing.
func scriptGone(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		ts.Check(ts.Exec(args[0], args[1:]...))
		if ts.ReadFile("stdout") == "" {
			return
		}
	}
	ts.Fatalf("%q still prints something", args)
}

// scriptOther is `other`: it sets OTHER_SSH to the SSH server of another guest.
func scriptOther(ts *testscript.TestScript, _ bool, _ []string) {
	socket, stop, err := serveAgent()
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Setenv("OTHER_SSH", "unix:"+filepath.Join(filepath.Dir(socket), doorName))
}

// scriptSame is `samefs A B`: two trees have the same names, types, contents,
// modes, times of change to the nanosecond, links and link counts.
func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	a, err := describeTree(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := describeTree(ts.MkAbs(args[1]))
	ts.Check(err)
	if (a == b) == neg {
		ts.Fatalf("%s:\n%s\n%s:\n%s", args[0], a, args[1], b)
	}
}
