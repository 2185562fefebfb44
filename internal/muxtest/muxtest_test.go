//go:build linux

package muxtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/muxtest"
	"github.com/guestd/guestd/vsock"
)

// patience is how long a test waits for what must happen; it is no measure.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// connect dials port and returns the host's and the guest's end.
func connect(t *testing.T, m *muxtest.Mux, guest net.Listener) (host *net.UnixConn, g net.Conn) {
	t.Helper()
	host, reply := rawConnect(t, m, guest.Addr().(vsock.Addr).Port)
	if !strings.HasPrefix(reply, "OK ") {
		t.Fatalf("reply %q", reply)
	}
	g, err := guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	_ = g.SetDeadline(time.Now().Add(patience))
	return host, g
}

// rawConnect speaks as a host without package vsock between, which refuses to
// half-close.
func rawConnect(t *testing.T, m *muxtest.Mux, port uint32) (c *net.UnixConn, reply string) {
	t.Helper()
	c = dialPath(t, m.Path())
	if _, err := fmt.Fprintf(c, "CONNECT %d\n", port); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil || b[0] == '\n' {
			return c, string(line)
		}
		line = append(line, b[0])
	}
}

func dialPath(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func mustEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("read %q, %v, want the end of the stream", rest, err)
	}
}

// mustTimeOut checks that nothing arrives, not even an end. It cannot wait for
// what does not happen, so it gives it a moment.
func mustTimeOut(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	defer func() { _ = c.SetReadDeadline(time.Now().Add(patience)) }()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v, want nothing", n, err)
	}
}

func waitConns(t *testing.T, m *muxtest.Mux, want int) {
	t.Helper()
	for ctx := testContext(t); m.Conns() != want; {
		if ctx.Err() != nil {
			t.Fatalf("%d connections, want %d", m.Conns(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestForwards(t *testing.T) {
	for name, cfg := range map[string]muxtest.Config{
		"firecracker":   {},
		"half-close":    {HalfClose: true},
		"vhost-device":  {ReplyGuestPort: true, DropEarly: true, PatientConnect: true, CloseCut: -1},
		"small buffer":  {Buffer: 1},
		"limited rates": {ToHostRate: 10 << 20, ToGuestRate: 10 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			m := muxtest.Start(t, cfg)
			host, guest := connect(t, m, m.Listen(1024))
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<10+1) // more than one read of the multiplexer's
			for _, dir := range []struct{ from, to net.Conn }{{host, guest}, {guest, host}} {
				sent := make(chan error, 1)
				go func() {
					_, err := dir.from.Write(data)
					sent <- err
				}()
				got := make([]byte, len(data))
				if _, err := io.ReadFull(dir.to, got); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("data differ, or %v", err)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			}
			_ = guest.Close()
			mustEnd(t, host)
			_ = host.Close()
			waitConns(t, m, 0)
		})
	}
}

func TestReply(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	m.Listen(7)
	for _, want := range []string{"OK 1073741824", "OK 1073741825"} {
		if _, reply := rawConnect(t, m, 7); reply != want {
			t.Errorf("reply %q, want %q", reply, want)
		}
	}
	m = muxtest.Start(t, muxtest.Config{ReplyGuestPort: true})
	m.Listen(7)
	if _, reply := rawConnect(t, m, 7); reply != "OK 7" {
		t.Errorf("reply %q, want OK 7", reply)
	}
}

func TestSplitReply(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{SplitReply: true})
	m.Listen(7)
	c := dialPath(t, m.Path())
	mustWrite(t, c, "CONNECT 7\n")
	const want = "OK 1073741824\n"
	var got []byte
	for buf := make([]byte, 100); len(got) < len(want); {
		n, err := c.Read(buf)
		if n != 1 || err != nil {
			t.Fatalf("read %d bytes, %v, want one byte", n, err)
		}
		got = append(got, buf[0])
	}
	if string(got) != want {
		t.Errorf("reply %q, want %q", got, want)
	}
}

func TestRefusesWithoutAWord(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	closed := m.Listen(9)
	_ = closed.Close()
	m.Register(10, filepath.Join(t.TempDir(), "nobody"))
	m.Register(11, "/nowhere")
	m.Unregister(11)
	for _, line := range []string{
		"CONNECT 8\n", "CONNECT 9\n", "CONNECT 10\n", "CONNECT 11\n",
		"connect 8\n", "CONNECT\n", "CONNECT -1\n", "CONNECT 4294967296\n", "\n",
		strings.Repeat("x", 100),
	} {
		c := dialPath(t, m.Path())
		mustWrite(t, c, line)
		// What was not read of the line makes the end a reset.
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: read %q, %v", line, rest, err)
		}
	}
	waitConns(t, m, 0)
}

func TestConnectMustComeInOnePiece(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	m.Listen(7)
	c := dialPath(t, m.Path())
	mustWrite(t, c, "CONNECT ")
	mustEnd(t, c)

	m = muxtest.Start(t, muxtest.Config{PatientConnect: true})
	m.Listen(7)
	c = dialPath(t, m.Path())
	mustWrite(t, c, "CONNECT ")
	mustTimeOut(t, c)
	mustWrite(t, c, "7\n")
	mustRead(t, c, "OK 1073741824\n")
}

func TestEarlyData(t *testing.T) {
	for _, drop := range []bool{false, true} {
		m := muxtest.Start(t, muxtest.Config{DropEarly: drop})
		l := m.Listen(7)
		c := dialPath(t, m.Path())
		mustWrite(t, c, "CONNECT 7\nearly")
		mustRead(t, c, "OK 1073741824\n")
		mustWrite(t, c, "late")
		g, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if drop {
			mustRead(t, g, "late")
		} else {
			mustRead(t, g, "earlylate")
		}
	}
}

func TestRegister(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	path := filepath.Join(t.TempDir(), "guest")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.Register(1024, path)
	c, err := m.Dialer(1024)(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, g, "SSH-2.0-banner\r\n") // the guest speaks first
	mustRead(t, c, "SSH-2.0-banner\r\n")
	mustWrite(t, c, "hello")
	mustRead(t, g, "hello")
	_ = g.Close()
	mustEnd(t, c)
}

func TestGuestSeesTheHost(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	_, guest := connect(t, m, m.Listen(7))
	want := vsock.Peer{Transport: vsock.VM, CID: vsock.CIDHost, Port: 1 << 30}
	if p, err := vsock.PeerOf(guest); err != nil || p != want {
		t.Errorf("peer %v, %v, want %v", p, err, want)
	}
	if a := guest.LocalAddr().String(); a != "vsock:3:7" {
		t.Errorf("local address %s", a)
	}
}

func TestDialHost(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{})
	ctx := testContext(t)
	if _, err := m.DialHost(ctx, 1025); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("nobody listens: %v, want a reset", err)
	}
	l, err := vsock.Listen(ctx, m.Addr(1025))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	guest, err := m.DialHost(ctx, 1025)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	host, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	mustWrite(t, guest, "ready")
	mustRead(t, host, "ready")
	mustWrite(t, host, "good")
	mustRead(t, guest, "good")
	_ = guest.Close()
	mustEnd(t, host)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.DialHost(canceled, 1025); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
