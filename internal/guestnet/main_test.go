//go:build linux

package guestnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// deadline bounds what a test waits for; on a busy machine all is slow.
const deadline = time.Minute

// stranger is a user who owns nothing.
var stranger = passwd.Identity{Name: "61234", UID: 61234, GID: 61235, Groups: []uint32{61235}, Home: "/"}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: becoming another user needs root")
	}
}

// openDir is a directory that every user may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guestnet-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listen(t *testing.T, spec guestnet.ListenSpec) net.Listener {
	t.Helper()
	l, err := guestnet.Listen(testContext(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// meet connects through d to l and checks that bytes pass, with a half-close
// each way. It returns the end that l accepted.
func meet(t *testing.T, d guestnet.Dialer, network, address string, l net.Listener) (conn, accepted net.Conn) {
	t.Helper()
	conn, err := d.DialContext(testContext(t), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	for _, way := range [][2]net.Conn{{conn, accepted}, {accepted, conn}} {
		if _, err := io.WriteString(way[0], "hello"); err != nil {
			t.Fatal(err)
		}
		if err := way[0].(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(way[1])
		if err != nil || string(got) != "hello" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	return conn, accepted
}

func TestDialTCP(t *testing.T) {
	l := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "localhost:0"})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, address := range []string{"127.0.0.1:" + port, "localhost:" + port, ":" + port, "any.localhost.:" + port} {
		meet(t, guestnet.Dialer{}, "tcp", address, l)
		meet(t, guestnet.Dialer{}, "tcp4", address, l)
	}
}

func TestDialLocalhostOnlyIPv6(t *testing.T) {
	needIPv6(t)
	for {
		l := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "[::1]:0"})
		port := l.Addr().(*net.TCPAddr).Port
		// Somebody else may be there with IPv4.
		if _, err := refuse(t, port); errors.Is(err, unix.EADDRINUSE) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		meet(t, guestnet.Dialer{}, "tcp", "localhost:"+strconv.Itoa(port), l)
		return
	}
}

// refuse returns the address of a TCP port of 127.0.0.1, any for 0, at which
// nobody listens and nobody else can until the end of the test.
func refuse(t *testing.T, port int) (address string, err error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port), nil
}

func TestDialUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	var d guestnet.Dialer
	conn, err := d.DialContext(testContext(t), "udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "datagram"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, from, err := server.ReadFrom(b)
	if err != nil || string(b[:n]) != "datagram" || from.String() != conn.LocalAddr().String() {
		t.Fatalf("%q of %v, %v", b[:n], from, err)
	}
}

func TestDialErrors(t *testing.T) {
	refused, err := refuse(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var address *guestnet.AddressError
	var name *net.DNSError
	for _, c := range []struct {
		network, address string
		want             error // nil: one of the types
		as               any
	}{
		{"tcp", refused, unix.ECONNREFUSED, nil},
		{"unix", file + ".none", fs.ErrNotExist, nil},
		{"unix", file, unix.ECONNREFUSED, nil},
		{"unix", "@nobody listens here", unix.ECONNREFUSED, nil},
		{"tcp", "no-such-host.invalid:80", nil, &name},
		{"tcp", "127.0.0.1", nil, &address},
		{"tcp", "127.0.0.1:http", nil, &address},
		{"tcp", "127.0.0.1:65536", nil, &address},
		{"tcp", "127.0.0.1:0", nil, &address},
		{"udp", "127.0.0.1:-1", nil, &address},
		{"unix", "relative", nil, &address},
		{"unix", "", nil, &address},
		{"unix", "@", nil, &address},
		{"unix", "/a\x00b", nil, &address},
		{"unix", "@" + strings.Repeat("x", 107), nil, &address},
		{"unixgram", "/a", nil, &address},
		{"", "127.0.0.1:1", nil, &address},
	} {
		var d guestnet.Dialer
		conn, err := d.DialContext(testContext(t), c.network, c.address)
		switch {
		case err == nil:
			t.Errorf("%s %q: connected", c.network, c.address)
			conn.Close()
		case c.want != nil && !errors.Is(err, c.want), c.as != nil && !errors.As(err, c.as):
			t.Errorf("%s %q: %v (%T)", c.network, c.address, err, err)
		}
	}
}

func TestDialEnds(t *testing.T) {
	// A unix listener whose queue is full, as nobody accepts.
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	var first net.Conn
	d := guestnet.Dialer{Timeout: deadline}
	if first, err = d.DialContext(testContext(t), "unix", path); err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	// On a busy machine the time may be up before the first attempt.
	for d.Timeout = 10 * time.Millisecond; !errors.Is(err, unix.EAGAIN) && d.Timeout < deadline; d.Timeout *= 2 {
		_, err = d.DialContext(t.Context(), "unix", path)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("full queue: %v", err)
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("full queue: %v", err)
	}
	// It waits until there is room.
	d.Timeout = deadline
	done := make(chan error, 1)
	go func() {
		conn, err := d.DialContext(t.Context(), "unix", path)
		if err == nil {
			conn.Close()
		}
		done <- err
	}()
	nfd, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(nfd) }()
	if err := <-done; err != nil {
		t.Errorf("queue with room again: %v", err)
	}
}
