package vsock_test

import (
	"context"
	"errors"
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

// checkListenError checks what every error of Listen must be.
func checkListenError(t *testing.T, a vsock.Addr, err error, want error, text string) {
	t.Helper()
	_, isOpError := err.(*net.OpError) //nolint:errorlint // the error itself, not one below
	switch {
	case !errors.Is(err, want):
		t.Errorf("%v, want %v", err, want)
	case !isOpError:
		t.Errorf("%T is not a *net.OpError", err)
	case !strings.HasPrefix(err.Error(), "listen "+a.String()+": ") || !strings.Contains(err.Error(), text):
		t.Errorf("text %q has no %q", err, text)
	}
}

func mustListen(t *testing.T, a vsock.Addr) net.Listener {
	t.Helper()
	l, err := vsock.Listen(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// checkReachable dials the socket file path and has l accept.
func checkReachable(t *testing.T, l net.Listener, path string) {
	t.Helper()
	c, err := vsock.Dial(testContext(t), unixAddr(path))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.LocalAddr() != l.Addr() || g.RemoteAddr() == nil || g.RemoteAddr().Network() != l.Addr().Network() {
		t.Errorf("addresses %v, %v", g.LocalAddr(), g.RemoteAddr())
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := mustListen(t, unixAddr(path))
	if l.Addr() != net.Addr(unixAddr(path)) {
		t.Errorf("address %v", l.Addr())
	}
	checkReachable(t, l, path)
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	var op *net.OpError
	if err := <-accepted; !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) || op.Addr != l.Addr() {
		t.Errorf("accept after close: %v", err)
	}
	if exists(path) {
		t.Error("the socket file is still there")
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// The host listens for the guest's port 1025 where the VMM will look.
func TestListenHybrid(t *testing.T) {
	path := filepath.Join(socketDir(t), "vm.sock")
	a := vsock.Addr{Transport: vsock.Hybrid, Path: path, Port: 1025}
	l := mustListen(t, a)
	if l.Addr() != net.Addr(a) {
		t.Errorf("address %v", l.Addr())
	}
	checkReachable(t, l, path+"_1025")
	_ = l.Close()
	if exists(path + "_1025") {
		t.Error("the socket file is still there")
	}
}

func TestListenMode(t *testing.T) {
	dir := socketDir(t)
	for _, umask := range []int{0, 0o077, 0o777} {
		for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o666: 0o666, 0o660: 0o660} {
			old := syscall.Umask(umask) // the process's: no test here runs in parallel
			path := filepath.Join(dir, "s")
			l, err := vsock.ListenConfig{Mode: mode}.Listen(testContext(t), unixAddr(path))
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %o, mode %o: %v, %v", umask, mode, info.Mode(), err)
			}
			_ = l.Close()
		}
	}
}

func TestListenInUse(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := mustListen(t, unixAddr(path))
	before, _ := os.Lstat(path)
	_, err := vsock.Listen(testContext(t), unixAddr(path))
	checkListenError(t, unixAddr(path), err, syscall.EADDRINUSE, "another process listens there: address already in use")
	after, err := os.Lstat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the first agent's file changed: %v", err)
	}
	c, err := l.Accept() // the probe
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the probe said something, or %v", err)
	}
	_ = c.Close()
	checkReachable(t, l, path)
}

func TestListenReplacesStale(t *testing.T) {
	path := staleSocket(t)
	l := mustListen(t, unixAddr(path))
	checkReachable(t, l, path)
}

func TestListenKeepsOthersFiles(t *testing.T) {
	dir := socketDir(t)
	file, link, datagram := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "datagram")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	makeStale(t, filepath.Join(dir, "stale"))
	if err := os.Symlink("stale", link); err != nil {
		t.Fatal(err)
	}
	d, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagram, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for path, want := range map[string]error{file: fs.ErrExist, link: fs.ErrExist, datagram: syscall.EADDRINUSE} {
		_, err := vsock.Listen(testContext(t), unixAddr(path))
		checkListenError(t, unixAddr(path), err, want, "")
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
}

func TestListenKeepsAnotherUsersSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a socket to another user")
	}
	path := staleSocket(t)
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	_, err := vsock.Listen(testContext(t), unixAddr(path))
	checkListenError(t, unixAddr(path), err, syscall.EADDRINUSE, "uid 12345")
	if !exists(path) {
		t.Error("the socket is gone")
	}
}

func TestListenErrors(t *testing.T) {
	dir := socketDir(t)
	nowhere := unixAddr(filepath.Join(dir, "no", "s"))
	_, err := vsock.Listen(testContext(t), nowhere)
	checkListenError(t, nowhere, err, fs.ErrNotExist, "")

	_, err = vsock.Listen(testContext(t), vsock.Addr{})
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("zero address: %v", err)
	}

	// The file of a hybrid address is longer than its path.
	edge := vsock.Addr{Transport: vsock.Hybrid, Path: "/" + strings.Repeat("x", 102), Port: 1025}
	if _, err = vsock.Listen(testContext(t), edge); err == nil || !strings.Contains(err.Error(), "path of 108 bytes") {
		t.Errorf("a path that grows too long: %v", err)
	}
}

// Of many agents that start at once over a dead one's socket, one wins and
// keeps it.
func TestListenRace(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	for range 20 {
		makeStale(t, path)
		var wg sync.WaitGroup
		listeners := make(chan net.Listener, 8)
		for range cap(listeners) {
			wg.Go(func() {
				l, err := vsock.Listen(testContext(t), unixAddr(path))
				if err == nil {
					listeners <- l
				} else {
					checkListenError(t, unixAddr(path), err, syscall.EADDRINUSE, "")
				}
			})
		}
		wg.Wait()
		if n := len(listeners); n != 1 {
			t.Fatalf("%d agents listen", n)
		}
		l := <-listeners
		c, err := vsock.Dial(testContext(t), unixAddr(path))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = l.Close()
		if exists(path) {
			t.Fatal("the socket file is still there")
		}
	}
}

func TestListenWaitsForTheDirectory(t *testing.T) {
	dir := socketDir(t)
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		t.Skipf("no locks on %s: %v", dir, err)
	}
	a := unixAddr(filepath.Join(dir, "s"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = vsock.Listen(ctx, a)
	checkListenError(t, a, err, context.DeadlineExceeded, "holds the lock of "+dir)
	_ = d.Close()
	mustListen(t, a)
}

// Close leaves alone what another agent has put in the place of our file.
func TestCloseKeepsASuccessorsFile(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	first := mustListen(t, unixAddr(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := mustListen(t, unixAddr(path))
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	checkReachable(t, second, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Errorf("close with the file gone: %v", err)
	}
}

// A relative path stays that of the directory in which Listen was called.
func TestListenRelative(t *testing.T) {
	dir := socketDir(t)
	t.Chdir(dir)
	l := mustListen(t, unixAddr("s"))
	checkReachable(t, l, "s")
	t.Chdir("/")
	if err := l.Close(); err != nil || exists(filepath.Join(dir, "s")) {
		t.Errorf("the file is still there, %v", err)
	}
}
