//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// console is guestctl on a terminal, seen from the other side of it.
type console struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File
	before unix.Termios
	reader sync.WaitGroup

	mu     sync.Mutex
	screen bytes.Buffer
}

// onTerminal starts guestctl on a terminal of 30 rows and 90 columns.
func onTerminal(t *testing.T, socket string, args ...string) *console {
	t.Helper()
	master, slave, err := pty.Open()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("this user may open no terminals here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, master: master, slave: slave}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 30, Cols: 90}); err != nil {
		t.Fatal(err)
	}
	c.before = c.modes()
	c.cmd = guestctl(t, socket, args...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.reader.Go(c.read)
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		slave.Close()
		c.reader.Wait()
		master.Close()
	})
	return c
}

func (c *console) read() {
	b := make([]byte, 4096)
	for {
		n, err := c.master.Read(b)
		c.mu.Lock()
		c.screen.Write(b[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.screen.String()
}

// sees waits until the screen has shown a text since the last look, and begins
// anew behind it.
func (c *console) sees(text string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%q on the screen", text), func() bool { return strings.Contains(c.text(), text) })
	c.mu.Lock()
	defer c.mu.Unlock()
	at := strings.Index(c.screen.String(), text)
	c.screen.Next(at + len(text))
}

func (c *console) types(text string) {
	c.t.Helper()
	if _, err := c.master.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) modes() unix.Termios {
	c.t.Helper()
	var modes *unix.Termios
	raw, err := c.slave.SyscallConn()
	if err == nil {
		err2 := raw.Control(func(fd uintptr) { modes, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
		if err == nil {
			err = err2
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return *modes
}

// ends waits for the end of guestctl, checks its code, and that the terminal is
// as it was.
func (c *console) ends(code int) {
	c.t.Helper()
	if got := exitCodeOf(c.t, c.cmd.Wait()); got != code {
		c.t.Errorf("exit code %d, not %d; the screen is %q", got, code, c.text())
	}
	if now := c.modes(); now != c.before {
		c.t.Errorf("the terminal is %+v, was %+v", now, c.before)
	}
}

func TestTerminal(t *testing.T) {
	socket := newAgent(t)
	c := onTerminal(t, socket, "exec", "-it", "--", "sh", "-c", `tty; stty size; echo term $TERM; trap "echo interrupted" INT
		while :; do
			read line || continue # interrupted
			echo "got $line"
			case $line in end) exit 3;; size) stty size;; esac
		done`)
	c.sees("/dev/pts/")
	c.sees("30 90")
	c.sees("term dumb")
	c.types("hello\r")
	c.sees("got hello")
	// A key that the local terminal would have made a signal of.
	c.types("\x03")
	c.sees("interrupted")
	if err := pty.Setsize(c.master, &pty.Winsize{Rows: 41, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new size", func() bool {
		c.types("size\r")
		c.sees("got size")
		return strings.Contains(c.text(), "41 101")
	})
	// Detaching was not asked for: these keys are the program's.
	c.types("\x10\x11again\r")
	c.sees("again")
	c.types("end\r")
	c.ends(3)
}

// TestTerminalWithoutInput: with -t alone Ctrl-C is a signal to guestctl, which
// passes it on.
func TestTerminalWithoutInput(t *testing.T) {
	c := onTerminal(t, newAgent(t), "exec", "-t", "--", "sh", "-c", "trap 'echo caught; exit 7' INT; tty; while :; do sleep 0.02; done")
	c.sees("/dev/pts/")
	c.types("\x03")
	c.sees("caught")
	c.ends(7)
}

func TestTerminalEndOfFile(t *testing.T) {
	c := onTerminal(t, newAgent(t), "exec", "-it", "--", "sh", "-c", "echo ready; cat; exit 6")
	c.sees("ready")
	c.types("text\r\x04")
	c.ends(6)
}

func TestTerminalShell(t *testing.T) {
	c := onTerminal(t, newAgent(t), "sh", "-it", "--shell", "/bin/sh")
	c.types("echo $((6*7)); exit 5\r")
	c.sees("42")
	c.ends(5)
}

// TestTerminalRestored ends guestctl in ways that are not the program's.
func TestTerminalRestored(t *testing.T) {
	for name, end := range map[string]struct {
		code int
		how  func(t *testing.T, c *console, proxy *cutter)
	}{
		"signal": {143, func(t *testing.T, c *console, _ *cutter) {
			if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}},
		"connection": {255, func(_ *testing.T, _ *console, proxy *cutter) { proxy.close() }},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, err := newCutter(newAgent(t), false, false)
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.close()
			c := onTerminal(t, proxy.socket(), "exec", "-it", "--", "sh", "-c", "echo ready; exec sleep 1000")
			c.sees("ready")
			if c.modes() == c.before {
				t.Error("the terminal is not raw")
			}
			end.how(t, c, proxy)
			c.ends(end.code)
		})
	}
}

func TestDetachAndAttach(t *testing.T) {
	socket := newAgent(t)
	script := `echo ready; while read line; do echo "got $line"; [ "$line" = end ] && exit 9; done`
	c := onTerminal(t, socket, "exec", "-it", "--keep", "--id", "shell", "--", "sh", "-c", script)
	c.sees("ready")
	c.types("one\r")
	c.sees("got one")
	// The first of the keys alone, and twice, is typed as it is.
	c.types("\x10x\x10\x10\x11")
	c.sees("detached; it runs on: guestctl attach shell")
	c.ends(0)

	c = onTerminal(t, socket, "attach", "--replay", "shell")
	c.sees("got one")
	eventually(t, "raw terminal", func() bool { return c.modes() != c.before })
	c.types("\x15two\r")
	c.sees("got two")
	c.types("\x10\x11")
	c.sees("detached")
	c.ends(0)

	c = onTerminal(t, socket, "attach", "--detach-keys", "ctrl-a,d", "shell")
	eventually(t, "raw terminal", func() bool { return c.modes() != c.before })
	c.types("\x15end\r")
	c.sees("got end")
	c.ends(9)
}

// TestAttachResizes: who attaches brings his terminal's size.
func TestAttachResizes(t *testing.T) {
	if master, slave, err := pty.Open(); err != nil {
		t.Skip("no terminals here: ", err)
	} else {
		master.Close()
		slave.Close()
	}
	socket := newAgent(t)
	outputOf(t, socket, "run", "-t", "--id", "p", "--", "sh", "-c", `echo ready; while read line; do stty size; done`)
	outputOf(t, socket, "wait", "p", "--output", "ready")
	c := onTerminal(t, socket, "attach", "p")
	eventually(t, "raw terminal", func() bool { return c.modes() != c.before })
	c.types("\r")
	c.sees("30 90")
	c.types("\x10\x11")
	c.ends(0)
}

func TestProgressBar(t *testing.T) {
	socket := newAgent(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", bytes.Repeat([]byte("content "), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c := onTerminal(t, socket, "cp", dir+"/file", ":"+dir+"/copy")
	c.ends(0)
	eventually(t, "summary", func() bool { return strings.Contains(c.text(), "/file: 8.0 MiB in ") })

	c = onTerminal(t, socket, "cp", "--no-progress", dir+"/file", ":"+dir+"/copy2")
	c.ends(0)
	if text := c.text(); text != "" {
		t.Errorf("printed %q", text)
	}
}

// TestHostileNames: a terminal gets no control characters from the guest.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a\x1b[2Jb\u009b\u202e\xff\n", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls", dir}, {"ls", "-l", dir}, {"ls", "-R", dir}, {"ls", "--json", dir}} {
		c := onTerminal(t, newAgent(t), args...)
		c.ends(0)
		eventually(t, "a name", func() bool { return strings.Contains(c.text(), "[2Jb") })
		if strings.ContainsAny(strings.ReplaceAll(c.text(), "\r\n", ""), "\x1b\u009b\n") {
			t.Errorf("%q: %q", args, c.text())
		}
	}
}
