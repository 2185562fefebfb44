//go:build linux

package proc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needTTY skips where the system gives this user no terminal.
func needTTY(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(ptmx, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a terminal: ", err)
	}
	_ = f.Close()
}

func TestTTY(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	out, errs, e := run(t, tab, Spec{
		Script: "tty >/dev/null && echo is a tty; stty size; echo $TERM; echo err >&2; read -r a b c d e f g tpgid rest < /proc/$$/stat; [ $tpgid = $$ ] && echo foreground",
		Shell:  "/bin/sh", TTY: &TTY{Size: Size{Rows: 33, Cols: 111}, Term: "vt220"},
	})
	want := "is a tty\r\n33 111\r\nvt220\r\nerr\r\nforeground\r\n"
	if out != want || errs != "" || !e.Success() || e.OutputHeld {
		t.Errorf("got %q, %q, %+v; want %q", out, errs, e, want)
	}
	out, _, _ = run(t, tab, Spec{Args: []string{"stty", "size"}, TTY: &TTY{}})
	if out != "24 80\r\n" {
		t.Errorf("default size %q", out)
	}
}

// Everything that was printed comes before the end, whatever the race between
// exit and hang-up: with a small and with a large tail.
func TestTTYKeepsTheTail(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	for range 20 {
		out, _, e := run(t, tab, Spec{Script: "seq 1 3000; printf tail", Shell: "/bin/sh", TTY: &TTY{}})
		if !strings.HasPrefix(out, "1\r\n2\r\n") || !strings.HasSuffix(out, "\r\n3000\r\ntail") || e.OutputHeld {
			t.Fatalf("%d bytes, ending in %q, %+v", len(out), out[max(0, len(out)-20):], e)
		}
	}
}

func TestTTYInput(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p, sub, _, err := tab.StartAttached(ctx, Spec{Args: []string{"cat"}, TTY: &TTY{Modes: map[uint8]uint32{53: 0}}}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	if _, err := p.Write(ctx, []byte("line\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the line comes back", func() bool { return p.Info().Stdout.End >= 6 })
	if err := p.CloseStdin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if out, _, e := collect(t, sub); out != "line\r\n" || e == nil || !e.Success() {
		t.Errorf("%q, %+v", out, e)
	}
	<-p.Finished()
	if err := p.Resize(Size{Rows: 1, Cols: 1}); !errors.Is(err, ErrProcessDone) {
		t.Errorf("resize after the end: %v", err)
	}
	// ^C is a signal.
	p = mustStart(t, tab, Spec{Script: "trap 'exit 42' INT; echo ready; while :; do sleep 0.01; done", Shell: "/bin/sh", TTY: &TTY{}})
	eventually(t, "it is ready", func() bool { return p.Info().Stdout.End >= 7 })
	if _, err := p.Write(ctx, []byte{3}); err != nil {
		t.Fatal(err)
	}
	if e := mustWait(t, p); e.Code != 42 {
		t.Errorf("exit %+v", e)
	}
}

// A terminal that takes nothing holds nobody up who wants to end its input.
func TestTTYCloseStdinEndsWithContext(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, TTY: &TTY{}})
	writing, stop := context.WithCancel(ctx)
	written := make(chan error)
	go func() {
		_, err := p.Write(writing, bytes.Repeat([]byte("line\n"), 1<<20))
		written <- err
	}()
	eventually(t, "a write has begun", func() bool { return len(p.inLock) == 1 })
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := p.CloseStdin(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind a write that is blocked: %v", err)
	}
	stop()
	if err := <-written; !errors.Is(err, context.Canceled) {
		t.Errorf("the write, which goes on: %v", err)
	}
	if p.stdinClosed() {
		t.Error("the input is closed, but no end of file was typed")
	}
	// As it is full still, or has room again: either way this returns.
	brief, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := p.CloseStdin(brief); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("on a full terminal: %v", err)
	}
}

func TestResize(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done", Shell: "/bin/sh", TTY: &TTY{}})
	eventually(t, "it is ready", func() bool { return p.Info().Stdout.End >= 7 })
	sub, err := p.Subscribe(SubscribeOptions{Stdout: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	if err := p.Resize(Size{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	if out, _, _ := collect(t, sub); out != "50 132\r\n" {
		t.Errorf("%q", out)
	}
	if err := mustStart(t, tab, Spec{Args: []string{"true"}}).Resize(Size{}); !errors.Is(err, ErrNoTTY) {
		t.Error(err)
	}
}

// A terminal with nobody attached is drained, and a background job that keeps
// it open does not hold the exit up.
func TestTTYUnattended(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "seq 1 100000; trap '' HUP; sleep 1000 & echo end", Shell: "/bin/sh", TTY: &TTY{}, RingSize: 8 << 10})
	if e := mustWait(t, p); !e.Success() {
		t.Errorf("exit %+v", e)
	}
	if s := p.Info().Stdout; s.End < 600000 || s.End-s.Start > 8<<10 {
		t.Errorf("%+v", s)
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil && !errors.Is(err, ErrProcessDone) {
		t.Error(err)
	}
	<-p.Finished()
}

func TestTTYOwner(t *testing.T) {
	needTTY(t)
	needRoot(t)
	tab := newTable(t, testConfig())
	out, _, _ := run(t, tab, Spec{Script: "echo again > $(tty); stat -c %u $(tty)", Shell: "/bin/sh", User: "12345", TTY: &TTY{}})
	if out != "again\r\n12345\r\n" {
		t.Errorf("%q", out)
	}
}

// Every opcode of RFC 4254 §8 and RFC 8160 changes the terminal as it says.
func TestTerminalModes(t *testing.T) {
	needTTY(t)
	master, err := os.OpenFile(ptmx, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = master.Close() }()
	apply := func(modes map[uint8]uint32) *unix.Termios {
		t.Helper()
		var tio *unix.Termios
		err := control(master, func(fd int) error {
			if err := setModes(fd, modes); err != nil {
				return err
			}
			var err error
			tio, err = unix.IoctlGetTermios(fd, unix.TCGETS)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return tio
	}
	for op, i := range controlChars {
		if got := apply(map[uint8]uint32{op: 0x41}).Cc[i]; got != 0x41 {
			t.Errorf("opcode %d: %#x", op, got)
		}
		if got := apply(map[uint8]uint32{op: 255}).Cc[i]; got != 0 {
			t.Errorf("opcode %d, disabled: %#x", op, got)
		}
	}
	word := func(tio *unix.Termios, w termWord) uint32 {
		return []uint32{tio.Iflag, tio.Oflag, tio.Cflag, tio.Lflag}[w]
	}
	for op, f := range modeFlags {
		for _, on := range []uint32{1, 0} {
			got := word(apply(map[uint8]uint32{op: on}), f.word) & f.bit
			if (got != 0) != (on == 1) && op != 92 { // a pty has no parity
				t.Errorf("opcode %d = %d: %#x", op, on, got)
			}
		}
	}
	tio := apply(map[uint8]uint32{90: 1, opISpeed: 19200, opOSpeed: 9600, 11: 1, 200: 1, opEnd: 1})
	if tio.Cflag&unix.CBAUD == 0 {
		t.Errorf("cflag %#x", tio.Cflag)
	}
	// Of the 18 control characters Linux lacks three.
	if len(controlChars) != 18-3 || len(modeFlags) != 34 {
		t.Errorf("%d control characters, %d flags", len(controlChars), len(modeFlags))
	}
	if apply(nil).Iflag&unix.IUTF8 == 0 {
		t.Error("UTF-8 is off")
	}
}
