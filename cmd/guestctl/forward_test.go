//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseForward(t *testing.T) {
	for text, want := range map[string]string{
		"3000":                     "tcp 127.0.0.1:3000 tcp localhost:3000",
		"8080:3000":                "tcp 127.0.0.1:8080 tcp localhost:3000",
		"0:3000":                   "tcp 127.0.0.1:0 tcp localhost:3000",
		"db:5432":                  "tcp 127.0.0.1:5432 tcp db:5432",
		"8080:db:5432":             "tcp 127.0.0.1:8080 tcp db:5432",
		"0.0.0.0:8080:3000":        "tcp 0.0.0.0:8080 tcp localhost:3000",
		"127.0.0.1:8080:db:5432":   "tcp 127.0.0.1:8080 tcp db:5432",
		"[::1]:8080:[fe80::1]:80":  "tcp [::1]:8080 tcp [fe80::1]:80",
		"8080:/run/app.sock":       "tcp 127.0.0.1:8080 unix /run/app.sock",
		"/tmp/h.sock:/run/a.sock":  "unix /tmp/h.sock unix /run/a.sock",
		"./h.sock:8080":            "unix h.sock tcp localhost:8080",
		"@here:@there":             "unix @here unix @there",
		"8053:53/udp":              "udp 127.0.0.1:8053 udp localhost:53",
		"53/udp":                   "udp 127.0.0.1:53 udp localhost:53",
		"8053:dns:53/udp":          "udp 127.0.0.1:8053 udp dns:53",
		"8080:80/tcp":              "tcp 127.0.0.1:8080 tcp localhost:80",
		"8080:/run/udp":            "tcp 127.0.0.1:8080 unix /run/udp",
		"-R 3000:localhost:8080":   "tcp 127.0.0.1:3000 tcp localhost:8080",
		"-R /run/h.sock:./mine":    "unix /run/h.sock unix mine",
		"-R 0.0.0.0:80:8080":       "tcp 0.0.0.0:80 tcp localhost:8080",
		"":                         "has an empty part",
		":3000":                    "has an empty part",
		"8080:":                    "has an empty part",
		"web":                      "is not a port",
		"8080:web":                 "is not a port",
		"70000:80":                 "is not a port",
		"8080:70000":               "the largest is 65535",
		"8080:0":                   "no port 0",
		"1:2:3":                    "more than LISTEN:TARGET",
		"/run/app.sock":            "only one of",
		"8080:./rel":               "is absolute",
		"-R ./rel:8080":            "is absolute",
		"-R 53:53/udp":             "to the guest only",
		"/tmp/x:53/udp":            "no unix sockets",
		"8053/udp:53":              "neither a port nor a host",
		"53/ucp":                   "neither a port nor a host",
		"[::1:8080":                "brackets",
		"[::1]x:8080":              "brackets",
		"8080:/run/a:/run/b":       "more than LISTEN:TARGET",
		"8080:localhost:3000:4000": "more than LISTEN:TARGET",
	} {
		operand, reverse := strings.CutPrefix(text, "-R ")
		spec, err := parseForward(operand, reverse)
		if err != nil {
			if _, usage := errors.AsType[usageError](err); !usage || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %s", text, err, want)
			}
			continue
		}
		if got := spec.listen.network + " " + spec.listen.address + " " + spec.target.network + " " + spec.target.address; got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, seed := range []string{"8080:3000", "[::1]:8080:db:80", "/a:@b", "53:53/udp", "[", "]:1", "::", "/udp"} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, reverse bool) {
		spec, err := parseForward(text, reverse)
		if err == nil && (spec.listen.address == "" || spec.target.address == "") {
			t.Errorf("%q: %+v", text, spec)
		}
	})
}

// forwardCommand is a forward that runs.
type forwardCommand struct {
	cmd    *exec.Cmd
	lines  []jsonForward
	more   *bufio.Scanner // of stdout
	stderr *syncBuffer
}

// syncBuffer is a bytes.Buffer that a command writes to while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startForward starts `guestctl forward --json` and waits until it listens for
// so many specs.
func startForward(t *testing.T, socket string, n int, args ...string) *forwardCommand {
	t.Helper()
	f := &forwardCommand{cmd: guestctl(t, socket, append([]string{"forward", "--json"}, args...)...), stderr: new(syncBuffer)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stderr = f.stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
	})
	f.more = bufio.NewScanner(out)
	for range n {
		f.lines = append(f.lines, f.next(t))
	}
	return f
}

// next waits until it listens for one more.
func (f *forwardCommand) next(t *testing.T) (line jsonForward) {
	t.Helper()
	if !f.more.Scan() {
		t.Fatalf("forward has ended: %s", f.stderr)
	}
	if err := json.Unmarshal(f.more.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	return line
}

// echo serves connections, each of which gets back in capitals all that it
// sends, when it has sent it.
func echo(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				b, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(bytes.ToUpper(b))
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l
}

// ask sends text, half-closes, and checks the answer.
func ask(t *testing.T, network, address, text string) {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != strings.ToUpper(text) {
		t.Errorf("%s %s: %d bytes, %v", network, address, len(got), err)
	}
}

func TestForward(t *testing.T) {
	socket := newAgent(t)
	dir := filepath.Dir(socket)
	tcp := echo(t, "tcp", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	unix := echo(t, "unix", filepath.Join(dir, "echo"))
	here := filepath.Join(dir, "here")
	reverse := filepath.Join(dir, "reverse")
	f := startForward(t, socket, 5, "0:"+port, here+":"+unix.Addr().String(), "0:1",
		"-R", "0:"+port, "-R", reverse+":"+unix.Addr().String())
	text := strings.Repeat("forward ", 100_000)
	ask(t, "tcp", f.lines[0].Listen, text)
	ask(t, "unix", here, text)
	ask(t, "tcp", f.lines[3].Listen, text)
	ask(t, "unix", reverse, text)
	if info, err := os.Stat(here); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// Nobody listens on port 1: that is told, and the connection is no end.
	conn, err := net.Dial("tcp", f.lines[2].Listen)
	if err == nil {
		defer conn.Close()
		_, err = io.ReadAll(conn)
	}
	if !errors.Is(err, syscall.ECONNRESET) { // it may be so quick that Dial sees it
		t.Errorf("%v", err)
	}
	eventually(t, "the refusal is told", func() bool {
		return strings.Contains(f.stderr.String(), "guestctl: forward 0:1: dial tcp localhost:1: connect: connection refused\n")
	})
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(t, f.cmd.Wait()); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d: %s", code, f.stderr)
	}
	for _, path := range []string{here, reverse} {
		eventually(t, path+" is gone", func() bool {
			_, err := os.Lstat(path)
			return errors.Is(err, os.ErrNotExist)
		})
	}
}

// Who closes a connection with something unread in it resets it. What was said
// before arrives all the same, as without a forward between.
func TestForwardUnread(t *testing.T) {
	socket := newAgent(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Addr().String())
	f := startForward(t, socket, 2, "0:"+port, "-R", "0:"+port)
	for i := range 100 {
		conn, err := net.Dial("tcp", f.lines[i%2].Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		accepted, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		ends := [2]net.Conn{conn, accepted}
		talks, hears := ends[i/2%2], ends[1-i/2%2]
		_ = talks.SetDeadline(time.Now().Add(time.Minute))
		_ = hears.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(hears, "220 ready"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(talks, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(talks, "last words"); err != nil {
			t.Fatal(err)
		}
		_ = talks.Close()
		if got, err := io.ReadAll(hears); string(got) != "last words" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("forward %d, end %d: %q, %v", i%2, i/2%2, got, err)
		}
	}
}

// Where the descriptors come to an end, who is next waits for one.
func TestForwardWithoutDescriptors(t *testing.T) {
	socket := newAgent(t)
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	_, port, _ := net.SplitHostPort(target.Addr().String())
	f := startForward(t, socket, 1, "0:"+port)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", f.lines[0].Listen)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// passes sends something from near to what the target accepts.
	passes := func(near net.Conn, far net.Conn) net.Conn {
		t.Helper()
		var err error
		if far == nil {
			far, err = target.Accept()
		}
		if err == nil {
			_, err = io.WriteString(near, "x")
		}
		if err == nil {
			_, err = io.ReadFull(far, make([]byte, 1))
		}
		if err != nil {
			t.Fatalf("%v; %s", err, f.stderr)
		}
		return far
	}
	first := dial()
	far := passes(first, nil)
	pid := f.cmd.Process.Pid
	open, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)), Max: uint64(len(open))}, nil); err != nil {
		t.Fatal(err)
	}
	others := []net.Conn{dial(), dial(), dial()}
	eventually(t, "it is told", func() bool { return strings.Contains(f.stderr.String(), "too many open files") })
	passes(first, far)
	for _, next := range others {
		_ = first.Close()
		_ = far.Close()
		first, far = next, passes(next, nil)
	}
	_ = first.Close()
	_ = far.Close()
}

func TestForwardUDP(t *testing.T) {
	socket := newAgent(t)
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	_, port, _ := net.SplitHostPort(server.LocalAddr().String())
	f := startForward(t, socket, 1, "0:"+port+"/udp")
	b := make([]byte, 1<<16)
	for _, text := range []string{"one", "two"} {
		conn, err := net.Dial("udp", f.lines[0].Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i := range 3 {
			want := text + strconv.Itoa(i)
			if _, err := io.WriteString(conn, want); err != nil {
				t.Fatal(err)
			}
			n, from, err := server.ReadFrom(b)
			if err != nil || string(b[:n]) != want {
				t.Fatalf("%q, %v", b[:n], err)
			}
			if _, err := server.WriteTo(b[:n], from); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(b); err != nil || string(b[:n]) != want {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	}
}

// A connection to the agent that breaks takes the forwarded ones with it, and
// nothing else.
func TestForwardAgentLost(t *testing.T) {
	socket := newAgent(t)
	c, err := newCutter(socket, false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	tcp := echo(t, "tcp", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	f := startForward(t, c.socket(), 2, "0:"+port, "-R", "0:"+port)
	ask(t, "tcp", f.lines[0].Listen, "before")
	ask(t, "tcp", f.lines[1].Listen, "before")
	c.cut()
	again := f.next(t)
	if again.Listen != f.lines[1].Listen || !again.Reverse {
		t.Errorf("%+v, was %+v", again, f.lines[1])
	}
	ask(t, "tcp", f.lines[0].Listen, "after")
	ask(t, "tcp", again.Listen, "after")
}
