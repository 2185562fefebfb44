package vsock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/vsock"
)

// needVM skips the tests that use AF_VSOCK over loopback (CID 1). They run in
// the tests' microVM with vsock_loopback loaded; elsewhere a machine's own
// vsock is not ours to connect to.
func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv("GUESTD_TEST_AF_VSOCK") == "" {
		t.Skip("needs AF_VSOCK with vsock_loopback, and GUESTD_TEST_AF_VSOCK=1 to say that it may be used")
	}
}

// listenVM listens on a free port and returns the address to dial.
func listenVM(t *testing.T) (net.Listener, vsock.Addr) {
	t.Helper()
	l := mustListen(t, vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny})
	a := l.Addr().(vsock.Addr)
	if a.CID != vsock.CIDAny || a.Port == 0 {
		t.Fatalf("listens on %v", a)
	}
	a.CID = vsock.CIDLocal
	return l, a
}

func connectLoopback(t *testing.T) (dialed, accepted net.Conn, stop func(), err error) {
	l, a := listenVM(t)
	if dialed, err = vsock.Dial(testContext(t), a); err != nil {
		return nil, nil, nil, err
	}
	if accepted, err = l.Accept(); err != nil {
		return nil, nil, nil, err
	}
	return dialed, accepted, closeBoth(dialed, accepted), nil
}

func TestVMConn(t *testing.T) {
	needVM(t)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) { return connectLoopback(t) })
}

func TestVMPeer(t *testing.T) {
	needVM(t)
	dialed, accepted, stop, err := connectLoopback(t)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p, err := vsock.PeerOf(accepted)
	if err != nil || p.Transport != vsock.VM || p.CID != vsock.CIDLocal || p.Port == 0 {
		t.Errorf("peer %v, %v", p, err)
	}
	if r := dialed.RemoteAddr().(vsock.Addr); r.CID != vsock.CIDLocal {
		t.Errorf("remote %v", r)
	}
	_ = dialed.Close()
	if _, err := dialed.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := accepted.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // io.Reader's contract
		t.Errorf("read after the peer's close: %v", err)
	}
	if accepted.LocalAddr() == nil || accepted.RemoteAddr() == nil || dialed.LocalAddr() == nil {
		t.Error("nil address")
	}
}

// A process inside the guest reaches the agent's port over loopback, and must
// be turned away.
func TestVMHostOnly(t *testing.T) {
	needVM(t)
	l, a := listenVM(t)
	hl := vsock.HostOnly(l, vsock.Policy{})
	ended := make(chan error, 1)
	go func() {
		_, err := hl.Accept()
		ended <- err
	}()
	c, err := vsock.Dial(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_ = hl.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) || hl.Refused() != 1 {
		t.Errorf("accept: %v, %d refused", err, hl.Refused())
	}
}

// A write to a peer that is gone is an error of its own kind, never io.EOF.
func TestVMWriteToNobody(t *testing.T) {
	needVM(t)
	dialed, accepted, stop, err := connectLoopback(t)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_ = accepted.Close()
	_, _ = io.ReadAll(dialed)
	for range 3 {
		var op *net.OpError
		if _, err := io.WriteString(dialed, "anybody?"); !errors.Is(err, syscall.EPIPE) || !errors.As(err, &op) {
			t.Errorf("%v, want a broken pipe", err)
		}
	}
}

func TestVMBuffer(t *testing.T) {
	needVM(t)
	_, accepted, stop, err := connectLoopback(t)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	rc, err := accepted.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rc.Control(func(fd uintptr) {
		for _, opt := range []int{unix.SO_VM_SOCKETS_BUFFER_SIZE, unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE} {
			if n, err := unix.GetsockoptUint64(int(fd), unix.AF_VSOCK, opt); err != nil || n != vsock.DefaultBuffer {
				t.Errorf("option %d is %d, %v", opt, n, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVMErrors(t *testing.T) {
	needVM(t)
	l, a := listenVM(t)
	again := l.Addr().(vsock.Addr)
	lc := vsock.ListenConfig{WaitForDevice: true} // waits for other errors only
	_, err := lc.Listen(testContext(t), again)
	checkListenError(t, again, err, syscall.EADDRINUSE, "another process has this port: address already in use")

	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	_, err = vsock.Dial(ctx, a)
	checkDialError(t, a, err, context.Canceled, "canceled")

	_ = l.Close()
	_, err = vsock.Dial(testContext(t), a)
	checkDialError(t, a, err, syscall.ECONNREFUSED, "connection refused")
	if _, err = l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

// modules, as environment, lists the files of the modules that make AF_VSOCK,
// with colons, in their order, none of which is loaded yet.
const modules = "GUESTD_TEST_VSOCK_MODULES"

// TestVMAppearsLate runs by itself, in a machine that boots.
func TestVMAppearsLate(t *testing.T) {
	files := os.Getenv(modules)
	if files == "" {
		t.Skip("needs a machine without AF_VSOCK, and " + modules + " to say how it gets it")
	}
	a := vsock.Addr{Transport: vsock.VM, CID: vsock.CIDAny, Port: 1024}
	_, err := vsock.Listen(testContext(t), a)
	checkListenError(t, a, err, syscall.EAFNOSUPPORT, "address family not supported")
	_, err = vsock.Dial(testContext(t), vsock.Addr{Transport: vsock.VM, CID: vsock.CIDHost, Port: 1})
	if !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("dial: %v", err)
	}

	waiting, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = waiting.Close() }()
	loaded := make(chan error, 1)
	go func() {
		line, _ := bufio.NewReader(waiting).ReadString('\n')
		t.Log(line)
		loaded <- loadModules(strings.Split(files, ":"))
	}()
	lc := vsock.ListenConfig{WaitForDevice: true, Logger: slog.New(slog.NewTextHandler(w, nil))}
	l, err := lc.Listen(testContext(t), a)
	_ = w.Close()
	if err := errors.Join(err, <-loaded); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func loadModules(files []string) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func TestVMCloseWrite(t *testing.T) {
	needVM(t)
	dialed, accepted, stop, err := connectLoopback(t)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	checkHalfClose(t, dialed, accepted)
}
