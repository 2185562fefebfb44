//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the shim and the helper program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "exec-shim":
			fmt.Fprintln(os.Stderr, ExecShim())
			os.Exit(1)
		case "helper":
			os.Exit(helper(os.Args[2], os.Args[3:]))
		}
	}
	fds := countFDs()
	code := m.Run()
	if err := leaks(fds); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "leaked:", err)
		code = 1
	}
	os.Exit(code)
}

// helper is what the tests want to run and a shell cannot do.
func helper(name string, args []string) int {
	switch name {
	case "flood": // write N bytes of the pattern to stdout
		n, _ := strconv.ParseInt(args[0], 10, 64)
		for off := int64(0); off < n; {
			w, err := os.Stdout.Write(patternAt(uint64(off), n-off))
			if err != nil {
				return 1
			}
			off += int64(w)
		}
	case "chatty": // write for ever
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("chatter ", 512)); err != nil {
				return 1
			}
		}
	case "escape": // a daemon: its own session, an orphan, closed descriptors
		attr := &os.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}}
		p, err := os.StartProcess("/proc/self/exe", []string{"helper", "helper", "escaped", args[0]}, attr)
		if err != nil {
			return 1
		}
		_, _ = p.Wait()
	case "escaped":
		attr := &os.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}}
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, attr)
		if err != nil {
			return 1
		}
		_ = os.WriteFile(args[0]+".tmp", []byte(strconv.Itoa(p.Pid)), 0o600)
		_ = os.Rename(args[0]+".tmp", args[0])
	case "listen": // serve "hello" on a TCP port of its own choice
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 1
		}
		fmt.Println(l.Addr())
		for {
			c, err := l.Accept()
			if err != nil {
				return 1
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			_ = c.Close()
		}
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		for {
			time.Sleep(time.Hour)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown helper", name)
		return 2
	}
	return 0
}

// helperArgs runs this binary as a helper.
func helperArgs(t testing.TB, args ...string) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{exe, "helper"}, args...)
}

// The pattern is an endless stream in which a lost, doubled or moved byte
// shows: it repeats only after a length that no buffer has.
const patternPeriod = 1<<20 + 977

var patternBlock = sync.OnceValue(func() []byte {
	b := make([]byte, patternPeriod)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
})

// patternAt returns at most n bytes of the pattern from offset off.
func patternAt(off uint64, n int64) []byte {
	b := patternBlock()[off%patternPeriod:]
	return b[:min(int64(len(b)), n)]
}

// isPattern reports whether data is what the pattern has at off.
func isPattern(off uint64, data []byte) bool {
	for len(data) > 0 {
		want := patternAt(off, int64(len(data)))
		if !bytes.Equal(data[:len(want)], want) {
			return false
		}
		off += uint64(len(want))
		data = data[len(want):]
	}
	return true
}

var tables atomic.Int64

// testConfig is a table's whose cgroup the leak check can tell.
func testConfig() Config {
	return Config{
		BootID: fmt.Sprintf("test-%d-%d", os.Getpid(), tables.Add(1)),
		Shim:   []string{"/proc/self/exe", "exec-shim"},
	}
}

// newTable makes a table that is closed, and checked to be empty, at the end.
func newTable(t testing.TB, cfg Config) *Table {
	t.Helper()
	tab, err := NewTable(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if s := tab.Stats(); s.Running+s.Lingering != 0 {
			t.Errorf("after close: %+v", s)
		}
	})
	return tab
}

// testContext ends long after any test should have.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustStart(t testing.TB, tab *Table, s Spec) *Process {
	t.Helper()
	p, _, err := tab.Start(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustWait(t testing.TB, p *Process) Exit {
	t.Helper()
	e, err := p.Wait(testContext(t))
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return e
}

// collect reads a subscription to its end.
func collect(t testing.TB, sub *Subscription) (stdout, stderr string, exit *Exit) {
	t.Helper()
	ctx := testContext(t)
	buf := make([]byte, 64<<10)
	var out, errs strings.Builder
	for {
		ev, err := sub.Next(ctx, buf)
		switch {
		case errors.Is(err, io.EOF):
			return out.String(), errs.String(), exit
		case err != nil:
			t.Fatalf("next: %v", err)
		case ev.Exit != nil:
			exit = ev.Exit
		case ev.Stream == Stderr:
			errs.Write(ev.Data)
		default:
			out.Write(ev.Data)
		}
	}
}

// run starts, collects and waits.
func run(t testing.TB, tab *Table, s Spec) (stdout, stderr string, exit Exit) {
	t.Helper()
	_, sub, _, err := tab.StartAttached(testContext(t), s, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	stdout, stderr, e := collect(t, sub)
	if e == nil {
		t.Fatal("the subscription ended without an exit")
	}
	return stdout, stderr, *e
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := poll(testContext(t), ok); err != nil {
		t.Fatalf("%s: never", what)
	}
}

func alive(pid int) bool {
	st, ok := readStat(pid)
	return ok && st.alive()
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func needCgroup(t testing.TB, tab *Table) {
	t.Helper()
	if tab.Capabilities().Cgroup == "" {
		t.Skip("needs a writable cgroup2 hierarchy")
	}
}

func countFDs() int {
	names, _ := filepath.Glob("/proc/self/fd/*")
	return len(names)
}

// leaks says what the tests left behind: goroutines, descriptors, children,
// cgroups.
func leaks(fdsBefore int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// TestMain's own goroutine, and what the runtime and testing keep.
	if poll(ctx, func() bool { return runtime.NumGoroutine() <= 3 }) != nil {
		buf := make([]byte, 1<<20)
		return fmt.Errorf("goroutines:\n%s", buf[:runtime.Stack(buf, true)])
	}
	// The poller's own two descriptors may be new.
	if n := countFDs(); n > fdsBefore+3 {
		names, _ := filepath.Glob("/proc/self/fd/*")
		for _, n := range names {
			l, _ := os.Readlink(n)
			fmt.Fprintln(os.Stderr, n, l)
		}
		return fmt.Errorf("%d descriptors, before %d", n, fdsBefore)
	}
	var ws unix.WaitStatus
	if pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("a child: %d, %w", pid, err)
	}
	if parent, err := findCgroup2(); err == nil {
		left, _ := filepath.Glob(filepath.Join(parent, fmt.Sprintf("%stest-%d-*", treePrefix, os.Getpid())))
		if len(left) > 0 {
			return fmt.Errorf("cgroups: %v", left)
		}
	}
	return nil
}
