//go:build linux

package guestnet_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

func TestListenUnix(t *testing.T) {
	dir := openDir(t)
	for _, path := range []string{
		filepath.Join(dir, "short"),
		filepath.Join(dir, strings.Repeat("long", 40), "s"),
		"@guestnet-test-" + filepath.Base(dir),
	} {
		if path[0] == '/' {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		l := listen(t, guestnet.ListenSpec{Network: "unix", Address: path, Mode: 0o666})
		if got := l.Addr().String(); got != path {
			t.Errorf("listens on %q", got)
		}
		meet(t, guestnet.Dialer{}, "unix", path, l)
		if _, err := guestnet.Listen(testContext(t), guestnet.ListenSpec{Network: "unix", Address: path}); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s twice: %v", path, err)
		}
		if path[0] == '/' {
			info, err := os.Stat(path)
			if err != nil || info.Mode() != fs.ModeSocket|0o666 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// A file that only looks like ours, and one that nobody listens on.
func TestListenUnixFiles(t *testing.T) {
	path := filepath.Join(openDir(t), "s")
	spec := guestnet.ListenSpec{Network: "unix", Address: path}
	first := listen(t, spec)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := listen(t, spec)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	first.Close()
	meet(t, guestnet.Dialer{}, "unix", path, second)
	second.Close()

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	third := listen(t, spec)
	meet(t, guestnet.Dialer{}, "unix", path, third)
	third.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("on a file: %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestUnixAsUser(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	mine, theirs := filepath.Join(dir, "mine"), filepath.Join(dir, "theirs")
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, int(stranger.UID), int(stranger.GID)); err != nil {
		t.Fatal(err)
	}
	root := listen(t, guestnet.ListenSpec{Network: "unix", Address: mine})
	as := guestnet.Dialer{User: &stranger}
	if _, err := as.DialContext(testContext(t), "unix", mine); !errors.Is(err, unix.EACCES) {
		t.Errorf("a socket of root's alone: %v", err)
	}
	if err := os.Chmod(mine, 0o666); err != nil {
		t.Fatal(err)
	}
	_, accepted := meet(t, as, "unix", mine, root)
	if cred := peerOf(t, accepted); cred.Uid != stranger.UID || cred.Gid != stranger.GID {
		t.Errorf("the server sees uid %d, gid %d", cred.Uid, cred.Gid)
	}

	spec := guestnet.ListenSpec{Network: "unix", Address: filepath.Join(dir, "no"), User: &stranger}
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EACCES) {
		t.Errorf("in a directory of root's: %v", err)
	}
	spec.Address, spec.Mode = filepath.Join(theirs, "s"), 0o660
	l := listen(t, spec)
	info, err := os.Stat(spec.Address)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != stranger.UID || st.Gid != stranger.GID || info.Mode().Perm() != 0o660 {
		t.Errorf("the file has uid %d, gid %d, mode %v", st.Uid, st.Gid, info.Mode())
	}
	conn, _ := meet(t, as, "unix", spec.Address, l)
	if cred := peerOf(t, conn); cred.Uid != stranger.UID {
		t.Errorf("the client sees uid %d", cred.Uid)
	}
	spec.Address += "2"
	spec.Owner = &guestnet.Owner{}
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EPERM) {
		t.Errorf("given away: %v", err)
	}
	if _, err := os.Lstat(spec.Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}

func TestListenUnixOwner(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "s")
	l := listen(t, guestnet.ListenSpec{Network: "unix", Address: path, Owner: &guestnet.Owner{UID: stranger.UID, GID: stranger.GID}})
	meet(t, guestnet.Dialer{User: &stranger}, "unix", path, l)
}

// peerOf returns who the kernel says is at the other end.
func peerOf(t *testing.T, conn net.Conn) *unix.Ucred {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		t.Fatal(err, credErr)
	}
	return cred
}

func TestListenTCPAsUser(t *testing.T) {
	needRoot(t)
	spec := guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:1", User: &stranger}
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EACCES) {
		t.Errorf("port 1: %v", err)
	}
	spec.Address = "127.0.0.1:0"
	l := listen(t, spec)
	meet(t, guestnet.Dialer{User: &stranger}, "tcp", l.Addr().String(), l)
	spec.Address = l.Addr().String()
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("twice: %v", err)
	}
}

// No thread keeps what it took on.
func TestRightsComeBack(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	path := filepath.Join(dir, "s")
	l := listen(t, guestnet.ListenSpec{Network: "unix", Address: path})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			as := guestnet.Dialer{User: &stranger}
			if _, err := as.DialContext(testContext(t), "unix", path); !errors.Is(err, unix.EACCES) {
				t.Errorf("as the stranger: %v", err)
			}
			var own guestnet.Dialer
			conn, err := own.DialContext(testContext(t), "unix", path)
			if err != nil {
				t.Errorf("as root: %v", err)
				return
			}
			conn.Close()
		})
	}
	wg.Wait()
	l.Close()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err == nil && strings.Contains(string(status), "61234") {
			t.Errorf("a thread is the stranger's: %s", status)
		}
	}
}

func TestListenErrors(t *testing.T) {
	for _, spec := range []guestnet.ListenSpec{
		{Network: "udp", Address: "127.0.0.1:0"},
		{Network: "tcp", Address: "127.0.0.1"},
		{Network: "tcp", Address: "127.0.0.1:x"},
		{Network: "unix", Address: "relative"},
		{Network: "unix"},
		{},
	} {
		var address *guestnet.AddressError
		l, err := guestnet.Listen(testContext(t), spec)
		if err == nil {
			l.Close()
		}
		if !errors.As(err, &address) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	if _, err := guestnet.Listen(testContext(t), guestnet.ListenSpec{Network: "tcp", Address: "192.0.2.1:0"}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("an address of others: %v", err)
	}
}

// An agent that is nobody special can be nobody else, and says so.
func TestUnprivileged(t *testing.T) {
	if os.Getenv("GUESTNET_UNPRIVILEGED") != "" {
		d := guestnet.Dialer{User: &otherUser}
		if _, err := d.DialContext(testContext(t), "unix", "/x"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("dial: %v", err)
		}
		if _, err := guestnet.Listen(testContext(t), guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0", User: &otherUser}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("listen: %v", err)
		}
		return
	}
	needRoot(t)
	// A copy of the test's program, where that user may execute it.
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(openDir(t), "test")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.run=^TestUnprivileged$")
	cmd.Env = append(os.Environ(), "GUESTNET_UNPRIVILEGED=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger.UID, Gid: stranger.GID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// otherUser is somebody else than the stranger.
var otherUser = passwd.Identity{Name: "61236", UID: 61236, GID: 61236, Groups: []uint32{61236}, Home: "/"}

// A literal "any" address is that of its own family, so that both can be had
// with one port, as OpenSSH's client asks for them.
func TestListenAnyOfOneFamily(t *testing.T) {
	four := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "0.0.0.0:0"})
	_, port, _ := net.SplitHostPort(four.Addr().String())
	if got := four.Addr().String(); got != "0.0.0.0:"+port {
		t.Errorf("listens on %s", got)
	}
	meet(t, guestnet.Dialer{}, "tcp", "127.0.0.1:"+port, four)
	needIPv6(t)
	six := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "[::]:" + port})
	meet(t, guestnet.Dialer{}, "tcp", "[::1]:"+port, six)
	both := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "*:0"})
	_, port, _ = net.SplitHostPort(both.Addr().String())
	meet(t, guestnet.Dialer{}, "tcp", "127.0.0.1:"+port, both)
	meet(t, guestnet.Dialer{}, "tcp", "[::1]:"+port, both)
}

// Every address of a name is listened on, with one port; what cannot be had is
// left out, unless that is all.
func TestListenAll(t *testing.T) {
	spec := guestnet.ListenSpec{Network: "tcp"}
	missing := "192.0.2.1" // RFC 5737: nobody has it
	all, err := guestnet.BindAll(testContext(t), spec, []string{missing, "127.0.0.1", "127.0.0.2"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(all[0].Addr().String())
	if len(all) != 2 || all[1].Addr().String() != "127.0.0.2:"+port {
		t.Errorf("listens on %v", all)
	}
	for _, l := range all {
		meet(t, guestnet.Dialer{}, "tcp", l.Addr().String(), l)
		defer l.Close()
	}
	if _, err := guestnet.BindAll(testContext(t), spec, []string{missing, missing}, 0); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("nothing can be had: %v", err)
	}
}

// With the name localhost a port that is taken on one loopback address is none
// for Listen, and the other address for ListenAll.
func TestListenLocalhostTaken(t *testing.T) {
	needIPv6(t)
	taken := listen(t, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	spec := guestnet.ListenSpec{Network: "tcp", Address: "localhost:" + port}
	if _, err := guestnet.Listen(testContext(t), spec); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Listen: %v", err)
	}
	all, err := guestnet.ListenAll(testContext(t), spec)
	if err != nil || len(all) != 1 || all[0].Addr().String() != "[::1]:"+port {
		t.Fatalf("ListenAll: %v, %v", all, err)
	}
	_ = all[0].Close()
	both, err := guestnet.ListenAll(testContext(t), guestnet.ListenSpec{Network: "tcp", Address: "localhost:0"})
	if err != nil || len(both) != 2 {
		t.Fatalf("ListenAll: %v, %v", both, err)
	}
	for _, l := range both {
		meet(t, guestnet.Dialer{}, "tcp", l.Addr().String(), l)
		_ = l.Close()
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("SKIP: no IPv6 here")
	}
	_ = l.Close()
}
