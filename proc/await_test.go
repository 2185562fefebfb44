//go:build linux

package proc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/hungfs"
)

func TestWaitForExit(t *testing.T) {
	tab := newTable(t, testConfig())
	long := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	short := mustStart(t, tab, Spec{Script: "exit 6", Shell: "/bin/sh"})
	m, err := tab.WaitFor(testContext(t), []Condition{ExitCondition{long}, ExitCondition{short}})
	if err != nil || m.Index != 1 || m.Exit == nil || m.Exit.Code != 6 {
		t.Errorf("%+v, %v", m, err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 10*time.Millisecond)
	defer cancel()
	if _, err := tab.WaitFor(ctx, []Condition{ExitCondition{long}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestWaitForWhatWasBeforeExit has each condition race with the process's end,
// and asks again, often, when it has ended for long.
func TestWaitForWhatWasBeforeExit(t *testing.T) {
	tab := newTable(t, testConfig())
	for name, holder := range map[string]string{"": "", " and a child holds its output": "sleep 1000 & "} {
		t.Run("process ends"+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "made")
			p := mustStart(t, tab, Spec{Script: holder + "sleep 0.1; echo printed; >" + path, Shell: "/bin/sh"})
			defer func() { _ = p.Signal(syscall.SIGKILL, ScopeTree) }()
			printed := OutputCondition{Process: p, Stream: Stdout, From: FromStart, Pattern: regexp.MustCompile("printed")}
			silent := printed
			silent.Stream = Stderr
			for range 30 {
				for _, test := range []struct {
					other Condition
					want  int
				}{{printed, 1}, {silent, 0}, {FileCondition{path}, 1}, {FileCondition{path + ".not"}, 0}} {
					m, err := tab.WaitFor(testContext(t), []Condition{ExitCondition{p}, test.other})
					if err != nil || m.Index != test.want || (m.Exit != nil) != (test.want == 0) {
						t.Errorf("%+v: %+v, %v", test.other, m, err)
					}
				}
			}
		})
	}
}

func TestWaitForOutput(t *testing.T) {
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p := mustStart(t, tab, Spec{Args: []string{"cat"}, Stdin: StdinPipe})
	write := func(s string) {
		t.Helper()
		end := p.Info().Stdout.End + uint64(len(s))
		if _, err := p.Write(ctx, []byte(s)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is printed", func() bool { return p.Info().Stdout.End == end })
	}
	type result struct {
		m   Match
		err error
	}
	wait := func(from int64, pattern string) chan result {
		c := make(chan result, 1)
		cond := OutputCondition{Process: p, Stream: Stdout, From: from, Pattern: regexp.MustCompile(pattern)}
		go func() {
			m, err := tab.WaitFor(ctx, []Condition{cond})
			c <- result{m, err}
		}()
		return c
	}
	// Across chunks, in the middle of a rune, with a byte that is not UTF-8.
	c := wait(FromStart, `listening on (\S+):\d{4}`)
	for _, s := range []string{"starting\nlist", "ening on ", "h\xc3", "\xb6st:", "\xff12", "3 listening on x:43"} {
		write(s)
	}
	select {
	case r := <-c:
		t.Fatalf("too early: %+v", r)
	default:
	}
	write("21 and more")
	if r := <-c; r.err != nil || r.m.Offset != p.Info().Stdout.End-uint64(len(" and more")) {
		t.Errorf("%+v, end %d", r, p.Info().Stdout.End)
	}
	// What was printed before counts from the offset on.
	if r := <-wait(FromStart, `start`); r.err != nil || r.m.Offset != 5 {
		t.Errorf("%+v", r)
	}
	c = wait(1, `start|last words`)
	if err := p.CloseStdin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if r := <-c; !errors.Is(r.err, ErrNever) {
		t.Errorf("%+v", r)
	}
}

// A file system that does not answer keeps neither another condition nor the
// context from ending a wait.
func TestWaitForFileOnHungFileSystem(t *testing.T) {
	tab := newTable(t, testConfig())
	hung, release := hungfs.Mount(t)
	ctx := testContext(t)
	never := FileCondition{Path: hung + "/file"}
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := tab.WaitFor(brief, []Condition{never}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("alone: %v", err)
	}
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	if m, err := tab.WaitFor(ctx, []Condition{never, ExitCondition{Process: p}}); err != nil || m.Index != 1 {
		t.Errorf("with an exit: %+v, %v", m, err)
	}
	release()
}

func TestWaitForPort(t *testing.T) {
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	other := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	p, sub, _, err := tab.StartAttached(ctx, Spec{Args: helperArgs(t, "listen")}, SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	ev, err := sub.Next(ctx, make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(string(ev.Data))
	_, portText, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(portText)
	port := uint16(n)
	for _, owner := range []*Process{nil, p} {
		if m, err := tab.WaitFor(ctx, []Condition{PortCondition{Port: port, Process: owner}}); err != nil {
			t.Errorf("%+v, %v", m, err)
		}
	}
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := tab.WaitFor(brief, []Condition{PortCondition{Port: port, Process: other}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a port of another process: %v", err)
	}
	m, err := tab.WaitFor(ctx, []Condition{HTTPCondition{URL: "http://" + addr + "/"}})
	if err != nil || m.Status != 204 {
		t.Errorf("%+v, %v", m, err)
	}
	brief, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := tab.WaitFor(brief, []Condition{HTTPCondition{URL: "http://" + addr + "/", MinStatus: 500, MaxStatus: 599}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another status: %v", err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	if _, err := tab.WaitFor(ctx, []Condition{PortCondition{Network: "udp", Port: uint16(udp.LocalAddr().(*net.UDPAddr).Port)}}); err != nil {
		t.Error(err)
	}
}

func TestWaitForFile(t *testing.T) {
	tab := newTable(t, testConfig())
	path := filepath.Join(t.TempDir(), "there")
	p := mustStart(t, tab, Spec{Script: "read x; echo > " + path + "; exec sleep 1000", Shell: "/bin/sh", Stdin: StdinPipe})
	done := make(chan error, 1)
	go func() {
		_, err := tab.WaitFor(testContext(t), []Condition{FileCondition{path}})
		done <- err
	}()
	if _, err := p.Write(testContext(t), []byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Error(err)
	}
}

func TestWaitForNonsense(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	for _, conds := range [][]Condition{
		nil, {ExitCondition{}}, {PortCondition{}}, {PortCondition{Port: 1, Network: "ip"}},
		{FileCondition{"relative"}}, {HTTPCondition{URL: "file:///x"}}, {HTTPCondition{URL: "http://x", MinStatus: 2, MaxStatus: 1}},
		{OutputCondition{}}, {OutputCondition{Process: p, Stream: Stdout}}, {ExitCondition{p}, FileCondition{""}},
	} {
		if _, err := tab.WaitFor(testContext(t), conds); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", conds, err)
		}
	}
	<-p.Finished()
	cond := OutputCondition{Process: p, Stream: Stdout, From: 99, Pattern: regexp.MustCompile("x")}
	if _, err := tab.WaitFor(testContext(t), []Condition{cond}); !errors.Is(err, ErrNever) || !errors.Is(err, ErrInvalid) {
		t.Errorf("an offset beyond the end: %v", err)
	}
}
