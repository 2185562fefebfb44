package vsock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/vsock"
)

// patience is how long a test waits for what must happen; it is no measure.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// socketDir returns a directory whose paths fit into a socket address.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vsock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func unixAddr(path string) vsock.Addr { return vsock.Addr{Transport: vsock.Unix, Path: path} }

func hybridAddr(path string) vsock.Addr {
	return vsock.Addr{Transport: vsock.Hybrid, Path: path, Port: 1024}
}

// serve runs handle for each connection to a socket in the place of a VMM's,
// and returns its path. handle's connections are closed when the test ends.
func serve(t *testing.T, handle func(*net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(socketDir(t), "vm.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			wg.Go(func() { handle(c) })
		}
	})
	return path
}

// checkDialError checks what every error of Dial must be.
func checkDialError(t *testing.T, a vsock.Addr, err error, want error, text string) {
	t.Helper()
	op, isOpError := err.(*net.OpError) //nolint:errorlint // the error itself, not one below
	switch {
	case !errors.Is(err, want):
		t.Errorf("%v, want %v", err, want)
	case !isOpError:
		t.Errorf("%T is not a *net.OpError", err)
	case op.Op != "dial" || op.Addr != net.Addr(a):
		t.Errorf("op %q, address %v", op.Op, op.Addr)
	case !strings.HasPrefix(err.Error(), "dial "+a.String()+": ") || !strings.Contains(err.Error(), text):
		t.Errorf("text %q has no %q", err, text)
	}
}

func TestDialRefused(t *testing.T) {
	closesUnread := serve(t, func(c *net.UnixConn) { _ = c.Close() })
	closesAfterRead := serve(t, func(c *net.UnixConn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_ = c.Close()
	})
	stale := staleSocket(t)
	for name, a := range map[string]vsock.Addr{
		"closed unread":     hybridAddr(closesUnread),
		"closed after read": hybridAddr(closesAfterRead),
		"stale hybrid":      hybridAddr(stale),
		"stale unix":        unixAddr(stale),
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // an end and a reset look different and race
				_, err := vsock.Dial(testContext(t), a)
				checkDialError(t, a, err, syscall.ECONNREFUSED, "connection refused")
			}
		})
	}
}

// staleSocket returns the file of a socket that nobody has any more.
func staleSocket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(socketDir(t), "stale")
	makeStale(t, path)
	return path
}

func makeStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func TestDialErrors(t *testing.T) {
	nowhere := filepath.Join(socketDir(t), "nowhere")
	for _, a := range []vsock.Addr{unixAddr(nowhere), hybridAddr(nowhere)} {
		_, err := vsock.Dial(testContext(t), a)
		checkDialError(t, a, err, fs.ErrNotExist, "no such file")
	}
	for a, text := range map[vsock.Addr]string{
		{}:                                    "no transport",
		{Transport: vsock.Hybrid, Path: "/x"}: "port 0",
		{Transport: vsock.Unix, Path: "@x"}:   "abstract",
		{Transport: vsock.VM, CID: vsock.CIDAny, Port: 1}:             "address to listen on",
		{Transport: vsock.VM, CID: 3}:                                 "address to listen on",
		{Transport: vsock.Unix, Path: "/" + strings.Repeat("x", 200)}: "path of 201 bytes",
	} {
		_, err := vsock.Dial(testContext(t), a)
		var op *net.OpError
		if !errors.As(err, &op) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q", a, err, text)
		}
	}
}

func TestDialBadReply(t *testing.T) {
	for _, reply := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "OK 4294967296\n", "\n", strings.Repeat("A", 1000), "OK 1"} {
		a := hybridAddr(serve(t, func(c *net.UnixConn) {
			_, _ = io.WriteString(c, reply)
			_ = c.CloseWrite()
		}))
		_, err := vsock.Dial(testContext(t), a)
		checkDialError(t, a, err, vsock.ErrBadReply, "unexpected reply")
	}
}

// The request is one write: Firecracker reads it once.
func TestDialWritesOnce(t *testing.T) {
	got := make(chan string, 1)
	a := hybridAddr(serve(t, func(c *net.UnixConn) {
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		got <- string(buf[:n])
		_, _ = io.WriteString(c, "OK 1\n")
	}))
	c, err := vsock.Dial(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := <-got; s != "CONNECT 1024\n" {
		t.Errorf("first read: %q", s)
	}
}

// The guest's first bytes may follow the reply in one segment.
func TestDialLeavesTheBanner(t *testing.T) {
	const banner = "SSH-2.0-guestd\r\n"
	a := hybridAddr(serve(t, func(c *net.UnixConn) {
		_, _ = io.WriteString(c, "OK 1073741824\n"+banner)
	}))
	c, err := vsock.Dial(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
		t.Errorf("%q, %v", got, err)
	}
	if c.RemoteAddr() != net.Addr(a) || c.LocalAddr().Network() != "hybrid" {
		t.Errorf("addresses %v, %v", c.LocalAddr(), c.RemoteAddr())
	}
}

func TestDialContext(t *testing.T) {
	reached := make(chan struct{}, 1)
	closed := make(chan error, 10)
	a := hybridAddr(serve(t, func(c *net.UnixConn) { // says nothing
		_, _ = bufio.NewReader(c).ReadString('\n')
		select {
		case reached <- struct{}{}:
		default:
		}
		_, err := c.Read(make([]byte, 1))
		closed <- err
	}))
	wantClosed := func(err error) {
		t.Helper()
		if !errors.Is(err, io.EOF) {
			t.Errorf("the socket of a failed dial: %v, want it closed", err)
		}
	}

	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-reached
		cancel()
	}()
	_, err := vsock.Dial(ctx, a)
	checkDialError(t, a, err, context.Canceled, "context canceled")
	wantClosed(<-closed)

	for _, dial := range []func(time.Duration) error{
		func(timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(testContext(t), timeout)
			defer cancel()
			_, err := vsock.Dial(ctx, a)
			return err
		},
		func(timeout time.Duration) error {
			_, err := vsock.Dialer{Timeout: timeout}.Dial(t.Context(), a)
			return err
		},
	} {
		connected := false
		for timeout := 20 * time.Millisecond; !connected; timeout *= 2 {
			err := dial(timeout)
			checkDialError(t, a, err, context.DeadlineExceeded, "deadline exceeded")
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%v is not a timeout", err)
			}
			select {
			case err := <-closed:
				wantClosed(err)
				connected = true
			case <-time.After(time.Second):
				// A busy machine: it passed before there was a connection.
			}
		}
	}

	ctx, cancel = context.WithCancel(testContext(t))
	cancel()
	for _, a := range []vsock.Addr{a, unixAddr(a.Path)} {
		_, err = vsock.Dial(ctx, a)
		checkDialError(t, a, err, context.Canceled, "canceled")
	}
}

// The context ends with the dial; the connection must not notice.
func TestDialContextIsForTheDialOnly(t *testing.T) {
	a := hybridAddr(serve(t, answerAndEcho))
	ctx, cancel := context.WithCancel(testContext(t))
	c, err := vsock.Dial(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	if _, err := io.WriteString(c, "echo"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "echo" {
		t.Errorf("%q, %v", got, err)
	}
}

// answerAndEcho is a VMM with a guest that echoes.
func answerAndEcho(c *net.UnixConn) {
	if answerConnect(c) == nil {
		_, _ = io.Copy(c, c)
	}
}

// answerConnect reads exactly the CONNECT line and says OK.
func answerConnect(c net.Conn) error {
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(c, "OK 1073741824\n")
	return err
}

// Every dial of a burst succeeds though the listener's queue is much shorter.
func TestDialBurst(t *testing.T) {
	path := filepath.Join(socketDir(t), "vm.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))

	const burst = 50
	errs := make(chan error, burst)
	for range burst {
		go func() {
			c, err := vsock.Dial(testContext(t), unixAddr(path))
			if err == nil {
				err = c.Close()
			}
			errs <- err
		}()
	}
	for range burst {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	for range burst {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}

	// A queue that stays full ends with the context.
	var waiting []net.Conn
	defer func() {
		for _, c := range waiting {
			_ = c.Close()
		}
	}()
	for {
		c, err := vsock.Dialer{Timeout: 200 * time.Millisecond}.Dial(t.Context(), unixAddr(path))
		if err != nil {
			checkDialError(t, unixAddr(path), err, context.DeadlineExceeded, "deadline exceeded")
			return
		}
		if waiting = append(waiting, c); len(waiting) > 10 {
			t.Fatal("a queue of 1 took 10 connections")
		}
	}
}

func TestCloseWrite(t *testing.T) {
	conns := make(chan net.Conn, 1)
	path := serve(t, func(c *net.UnixConn) { conns <- c })
	c, err := vsock.Dial(testContext(t), unixAddr(path))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkHalfClose(t, c, <-conns)
}

// checkHalfClose checks that an answer arrives after the question's end.
func checkHalfClose(t *testing.T, asks, answers net.Conn) {
	t.Helper()
	_, _ = io.WriteString(asks, "question")
	if err := vsock.CloseWrite(asks); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(answers); err != nil || string(all) != "question" {
		t.Errorf("question %q, %v", all, err)
	}
	_, _ = io.WriteString(answers, "answer")
	_ = answers.Close()
	if all, err := io.ReadAll(asks); err != nil || string(all) != "answer" {
		t.Errorf("answer %q, %v", all, err)
	}
}

func TestCloseWriteUnsupported(t *testing.T) {
	h, err := vsock.Dial(testContext(t), hybridAddr(serve(t, answerAndEcho)))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, _ := net.Pipe()
	defer p.Close()
	for _, c := range []net.Conn{h, p} {
		if err := vsock.CloseWrite(c); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%T: %v, want unsupported", c, err)
		}
	}
	// The refusal has done no harm.
	if _, err := fmt.Fprint(h, "x"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(h, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
