//go:build linux

package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
)

// terminal starts a command with a terminal and hands out its ends.
func terminal(t *testing.T, c *ssh.Client, modes ssh.TerminalModes, command string) (*ssh.Session, io.Writer, *expecter) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("vt220", 30, 100, modes); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if command == "" {
		err = s.Shell()
	} else {
		err = s.Start(command)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, in, &expecter{t: t, r: out}
}

// An expecter reads until something has come.
type expecter struct {
	t   *testing.T
	r   io.Reader
	got []byte
}

func (e *expecter) expect(text string) {
	e.t.Helper()
	buf := make([]byte, 4096)
	for {
		if i := bytes.Index(e.got, []byte(text)); i >= 0 {
			e.got = e.got[i+len(text):]
			return
		}
		n, err := e.r.Read(buf)
		e.got = append(e.got, buf[:n]...)
		if err != nil && !bytes.Contains(e.got, []byte(text)) {
			e.t.Fatalf("%q did not come, but %q, %v", text, e.got, err)
		}
	}
}

func TestTerminalSizeAndModes(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	s, in, out := terminal(t, c, ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 1}, "stty size; stty -a; echo $TERM; read x; stty size; echo end")
	out.expect("30 100\r\n")
	out.expect("intr = ^A")
	out.expect("-echo ")
	out.expect("vt220\r\n")
	for i := range 50 { // the latest wins
		if err := s.WindowChange(10+i, 20+i); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := s.SendRequest(requestKeepAlive, true, nil); !ok || err != nil { // all have been seen
		t.Fatal(ok, err)
	}
	fmt.Fprintln(in)
	out.expect("59 69\r\nend\r\n")
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// Keys that a terminal makes signals of, as people use them.
func TestTerminalInterrupt(t *testing.T) {
	l := newLab(t)
	_, in, out := terminal(t, l.dial(access.Grant{}), nil, "trap 'echo caught' INT; echo ready; read x; echo got $x; sleep 1000")
	out.expect("ready\r\n")
	fmt.Fprint(in, "\x03")
	out.expect("caught\r\n")
}

func TestGreeting(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to write a message of the day")
	}
	const motd = "/run/motd.dynamic"
	if _, err := os.Stat(motd); err == nil {
		t.Skip(motd + " is there")
	}
	if err := os.WriteFile(motd, []byte("hello\nguest\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(motd) })
	l := newLab(t)
	c := l.dial(access.Grant{MaxConnections: 2})
	_, in, out := terminal(t, c, nil, "")
	out.expect("hello\r\nguest\r\n")
	fmt.Fprint(in, "echo [$0]; exit\n")
	out.expect("[-")
	// Not in front of a command.
	_, _, out = terminal(t, c, nil, "echo first")
	if all, err := io.ReadAll(out.r); string(all) != "first\r\n" || err != nil {
		t.Errorf("in front of a command: %q, %v", all, err)
	}
}

func TestSignals(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	if err := s.Start("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	e := &expecter{t: t, r: out}
	e.expect("ready\n")
	if err := s.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	e.expect("usr1\n")
	if err := s.Signal(ssh.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "KILL" || exit.Msg() != "killed" {
		t.Errorf("ended with %v", err)
	}
	if s, err = c.NewSession(); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal("NONSENSE"); err != nil {
		t.Fatal(err)
	}
	if err := s.Run("true"); err != nil {
		t.Error(err)
	}
}

// What is told of the exit comes although the output does not get through.
func TestExitBeforeOutput(t *testing.T) {
	l := newLab(t)
	ch, requests := l.channel(l.dial(access.Grant{}))
	// More than the client's window and the program's pipe, less than what is
	// kept.
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"head -c 2200000 /dev/zero; exit 5"}), true)
	select {
	case r := <-requests:
		if r.Type != "exit-status" || binary.BigEndian.Uint32(r.Payload) != 5 {
			t.Errorf("got %s %v", r.Type, r.Payload)
		}
	case <-time.After(patience):
		t.Fatal("no exit status")
	}
	if n, err := io.Copy(io.Discard, ch); n != 2_200_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A client that goes on sending is told that nobody reads.
func TestEndOfWrite(t *testing.T) {
	l := newLab(t)
	ch, requests := l.channel(l.dial(access.Grant{}))
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"exec <&-; echo closed; sleep 1000"}), true)
	(&expecter{t: t, r: ch}).expect("closed\n")
	if _, err := ch.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if r := <-requests; r == nil || r.Type != requestEndOfWrite {
		t.Errorf("got %+v", r)
	}
	// And its window stays open.
	if _, err := ch.Write(make([]byte, 8<<20)); err != nil {
		t.Error(err)
	}
}

// The client may say that nobody reads before the program has been started: it
// is told when it is, and does not print into the void.
func TestEarlyEndOfWrite(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	for range 20 {
		ch, requests := l.channel(c)
		command := struct{ Command string }{"read line; echo $line; exit 3"}
		if _, err := ch.SendRequest("exec", false, ssh.Marshal(command)); err != nil {
			t.Fatal(err)
		}
		request(t, ch, requestEndOfWrite, nil, true)
		if _, err := io.WriteString(ch, "x\n"); err != nil {
			t.Fatal(err)
		}
		if r := <-requests; r == nil || r.Type != "exit-signal" {
			t.Fatalf("told %+v", r)
		}
		_ = ch.Close()
	}
	_ = c.Close()
	l.quiet()
}

// channel opens a session channel as it is.
func (l *lab) channel(c *ssh.Client) (ssh.Channel, <-chan *ssh.Request) {
	l.t.Helper()
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return ch, requests
}

// request sends a request that must be answered with want.
func request(t *testing.T, ch ssh.Channel, kind string, payload []byte, want bool) {
	t.Helper()
	if ok, err := ch.SendRequest(kind, true, payload); ok != want || err != nil {
		t.Errorf("%s %q: %v, %v; want %v", kind, payload, ok, err, want)
	}
}

// Every request that is malformed, late or not permitted is refused, and the
// session goes on.
func TestRefusedRequests(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{Permissions: &access.Permissions{Exec: true}})
	ch, _ := l.channel(c)
	pty := ssh.Marshal(struct {
		T          string
		C, R, W, H uint32
		M          string
	}{"xterm", 80, 24, 0, 0, ""})
	for _, r := range []struct {
		kind    string
		payload []byte
	}{
		{"pty-req", pty}, {"pty-req", nil}, {"pty-req", pty[:9]}, {"shell", nil},
		{"subsystem", ssh.Marshal(struct{ N string }{"sftp"})}, {"subsystem", ssh.Marshal(struct{ N string }{"other"})},
		{"exec", nil}, {"exec", []byte{0, 0, 1, 0, 'x'}}, {"exec", ssh.Marshal(struct{ C string }{"a\x00b"})},
		{"env", nil}, {"env", ssh.Marshal(struct{ N, V string }{"LD_PRELOAD", "x"})},
		{"env", ssh.Marshal(struct{ N, V string }{"LC_X", "a\x00b"})}, {"env", ssh.Marshal(struct{ N, V string }{"LC_X=y", ""})},
		{"window-change", ssh.Marshal(windowSize{80, 24, 0, 0})}, {"signal", ssh.Marshal(struct{ N string }{"TERM"})},
		{"x11-req", nil}, {"break", nil}, {"nonsense", nil}, {"", nil},
	} {
		request(t, ch, r.kind, r.payload, false)
	}
	request(t, ch, "env", ssh.Marshal(struct{ N, V string }{"LC_X", "a b"}), true)
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"echo $LC_X; cat"}), true)
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"echo twice"}), false)
	request(t, ch, "env", ssh.Marshal(struct{ N, V string }{"LC_Y", "late"}), false)
	_ = ch.CloseWrite()
	if out, err := io.ReadAll(ch); string(out) != "a b\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// Hundreds of sessions at once, on one connection.
func TestManySessions(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	var sessions sync.WaitGroup
	for i := range 100 {
		sessions.Go(func() {
			s, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			s.Stdin = strings.NewReader(fmt.Sprint(i))
			out, err := s.Output("cat; exit 0")
			if string(out) != fmt.Sprint(i) || err != nil {
				t.Errorf("%d: %q, %v", i, out, err)
			}
		})
	}
	sessions.Wait()
	_ = c.Close()
	l.quiet()
}

// Waiting costs no thread, and what waits leaves nothing behind.
func TestCrowd(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	const crowd = 300
	var ready, gone sync.WaitGroup
	ready.Add(crowd)
	for range crowd {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		in, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		gone.Go(func() {
			if err := s.Start("echo; exec cat"); err != nil {
				t.Error(err)
			}
			_, _ = out.Read(make([]byte, 1))
			ready.Done()
			ready.Wait() // until all are there
			_ = in.Close()
			if err := s.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) > 100 {
		t.Errorf("%d threads for %d sessions", len(threads), crowd)
	}
	t.Logf("%d threads", len(threads))
	gone.Wait()
	_ = c.Close()
	l.quiet()
}

func TestNoMoreSessions(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	ch, _ := l.channel(c)
	if ok, _, err := c.SendRequest(requestNoMoreSessions, true, nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, _, err := c.OpenChannel("session", nil); err == nil {
		t.Error("one more session")
	}
	request(t, ch, "exec", ssh.Marshal(struct{ C string }{"true"}), true)
}

func TestHostKeyProof(t *testing.T) {
	l := newLab(t)
	c := l.dial(access.Grant{})
	key := l.server.hostKey.PublicKey()
	one := ssh.Marshal(struct{ K []byte }{key.Marshal()})
	ok, reply, err := c.SendRequest(requestProveHostKeys, true, append(one, one...))
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	signed := ssh.Marshal(struct {
		P    string
		S, K []byte
	}{requestProveHostKeys, c.SessionID(), key.Marshal()})
	for range 2 {
		var next struct {
			S    []byte
			Rest []byte `ssh:"rest"`
		}
		var sig ssh.Signature
		if err := errors.Join(ssh.Unmarshal(reply, &next), ssh.Unmarshal(next.S, &sig)); err != nil {
			t.Fatal(err)
		}
		if err := key.Verify(signed, &sig); err != nil {
			t.Error(err)
		}
		reply = next.Rest
	}
	other, _ := l.newKey()
	for _, bad := range [][]byte{nil, one[:7], ssh.Marshal(struct{ K []byte }{other.PublicKey().Marshal()})} {
		if ok, _, _ := c.SendRequest(requestProveHostKeys, true, bad); ok {
			t.Errorf("%x was proven", bad)
		}
	}
}

// A peer that does not answer is gone; one that is only quiet is not.
func TestKeepAlive(t *testing.T) {
	// Long enough for a client to have its turn on a busy machine.
	l := newLab(t, func(c *Config) { c.KeepAlive = 300 * time.Millisecond })
	c := l.dial(access.Grant{})
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run("sleep 2"); err != nil { // more intervals than may go unanswered
		t.Errorf("a quiet client: %v", err)
	}
	conn := l.mute(access.Grant{})
	defer func() { _ = conn.Close() }()
	eventually(t, "the silent one is given up", func() bool {
		return len(l.store.Connections()) == 1
	})
}

// A cut connection leaves nothing behind that listens to it.
func TestHangup(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name, command string
		tty           bool
	}{
		{"terminal", "echo ready; exec sleep 1000", true},
		{"reader", "echo ready; exec cat", false},
		{"writer", "echo ready; exec yes", false},
		{"neither", "echo ready; sleep 1000; echo not reached", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"-T", c.command}
			if c.tty {
				args[0] = "-tt"
			}
			cmd := l.ssh(access.Grant{}, args...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			(&expecter{t: t, r: out}).expect("ready")
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, "the program ends", func() bool { return l.table.Stats().Running == 0 })
			l.quiet()
		})
	}
}

// What happens is told to who watches the door.
func TestEvents(t *testing.T) {
	l := newLab(t)
	watcher, err := l.store.Watch(access.WatchOptions{Terminals: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close() }()
	c := l.dial(access.Grant{ID: "g"})
	s, _, out := terminal(t, c, nil, "echo shown; exit 3")
	out.expect("shown")
	if err := s.Wait(); err == nil {
		t.Error("no exit status")
	}
	_ = c.Close()
	var kinds []access.EventKind
	var cast strings.Builder
	for {
		e, err := watcher.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == access.EventTerminal {
			if cast.Len() == 0 && (!e.Terminal.Start || e.Terminal.Rows != 30 || e.Terminal.Term != "vt220") {
				t.Errorf("began with %+v", e.Terminal)
			}
			cast.Write(e.Terminal.Output)
			continue
		}
		kinds = append(kinds, e.Kind)
		if e.Kind == access.EventSessionEnded && (e.Reason != "exit 3" || e.Session != "1") {
			t.Errorf("ended: %+v", e)
		}
		if e.Kind == access.EventExec && (e.Command != "echo shown; exit 3" || !e.TTY || e.Grant != "g") {
			t.Errorf("exec: %+v", e)
		}
		if e.Kind == access.EventClosed {
			break
		}
	}
	want := []access.EventKind{access.EventGranted, access.EventConnected, access.EventExec, access.EventSessionEnded, access.EventClosed}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || cast.String() != "shown\r\n" {
		t.Errorf("told %v and %q", kinds, cast.String())
	}
}

// A program that cannot be started is told as by a shell.
func TestCannotStart(t *testing.T) {
	l := newLab(t)
	var held []*proc.Process
	defer func() {
		for _, p := range held {
			_ = p.Stop(within(t), -1)
		}
	}()
	if err := l.table.UpdateEnv([]string{"PATH=/none"}, nil); err != nil {
		t.Fatal(err)
	}
	got := run(t, l.ssh(access.Grant{}, "ls"))
	if got.code != 127 {
		t.Errorf("got %+v", got)
	}
	file := filepath.Join(l.dir, "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, l.ssh(access.Grant{}, file)); got.code != 126 {
		t.Errorf("got %+v", got)
	}
}
