package vsock

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	mdvsock "github.com/mdlayher/vsock"
)

// scriptedListener accepts what the test sends it.
type scriptedListener chan net.Conn

func (l scriptedListener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (scriptedListener) Addr() net.Addr { return Addr{Transport: VM, CID: CIDAny, Port: 1024} }
func (scriptedListener) Close() error   { return nil }

// addrConn is a connection that names its peer.
type addrConn struct {
	net.Conn
	remote net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.remote }

func vmPeer(cid, port uint32) Peer { return Peer{Transport: VM, CID: cid, Port: port} }

func TestHostOnly(t *testing.T) {
	self := uint32(os.Geteuid())
	for _, test := range []struct {
		name     string
		policy   Policy
		peer     Peer
		err      error
		accepted bool
	}{
		{name: "host", peer: vmPeer(CIDHost, 1<<30), accepted: true},
		{name: "loopback", peer: vmPeer(CIDLocal, 1023)},
		{name: "hypervisor", peer: vmPeer(CIDHypervisor, 1023)},
		{name: "another guest", peer: vmPeer(3, 1023)},
		{name: "any", peer: vmPeer(CIDAny, 1023)},
		{name: "privileged port", policy: Policy{RequirePrivilegedPort: true}, peer: vmPeer(CIDHost, 1023), accepted: true},
		{name: "ordinary port", policy: Policy{RequirePrivilegedPort: true}, peer: vmPeer(CIDHost, 1024)},
		{name: "privileged port of a guest", policy: Policy{RequirePrivilegedPort: true}, peer: vmPeer(3, 1023)},
		{name: "root", peer: Peer{Transport: Unix, UID: 0}, accepted: true},
		{name: "own user", peer: Peer{Transport: Unix, UID: self, PID: 1}, accepted: true},
		{name: "another user", peer: Peer{Transport: Unix, UID: self + 1, PID: 1}},
		{name: "nobody", peer: Peer{Transport: Unix, UID: 0xffffffff}},
		{name: "unknown", peer: Peer{}},
		{name: "unknown error", peer: vmPeer(CIDHost, 1), err: errors.New("no credentials")},
	} {
		t.Run(test.name, func(t *testing.T) {
			inner := make(scriptedListener, 2)
			test.policy.peerOf = func(net.Conn) (Peer, error) { return test.peer, test.err }
			l := HostOnly(inner, test.policy)
			near, far := net.Pipe()
			defer far.Close()
			_ = far.SetDeadline(time.Now().Add(10 * time.Second))
			inner <- near
			close(inner)
			c, err := l.Accept()
			if test.accepted {
				if err != nil || c != near || l.Refused() != 0 {
					t.Errorf("%v, %v, %d refused", c, err, l.Refused())
				}
				return
			}
			// The next thing after the refused one is the listener's end.
			if !errors.Is(err, net.ErrClosed) || l.Refused() != 1 {
				t.Errorf("%v, %v, %d refused", c, err, l.Refused())
			}
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the refused peer reads %v, want the end", err)
			}
		})
	}
}

// A thousand refused peers delay nobody, are all counted, and log one line.
func TestHostOnlyFlood(t *testing.T) {
	const flood = 1000
	inner := make(scriptedListener, flood+1)
	refused, gone := net.Pipe()
	_ = gone.Close()
	for range flood {
		inner <- addrConn{refused, &mdvsock.Addr{ContextID: CIDLocal, Port: 5000}}
	}
	host := addrConn{refused, Addr{Transport: VM, CID: CIDHost, Port: 5000}}
	inner <- host
	var log bytes.Buffer
	l := HostOnly(inner, Policy{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if c, err := l.Accept(); err != nil || c != net.Conn(host) {
		t.Fatalf("%v, %v", c, err)
	}
	if l.Refused() != flood {
		t.Errorf("%d refused", l.Refused())
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "cid 1 port 5000: not the host") {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	l.nextLog = time.Time{}
	inner <- addrConn{refused, &mdvsock.Addr{ContextID: 4}}
	close(inner)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "refused=1001") {
		t.Errorf("the second line does not say how many:\n%s", &log)
	}
}

func TestPeerOf(t *testing.T) {
	l, err := Listen(t.Context(), Addr{Transport: Unix, Path: socketPath(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := Dial(t.Context(), l.Addr().(Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	self := Peer{Transport: Unix, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid())}
	for _, c := range []net.Conn{near, far, far.(*unixConn).UnixConn, tls.Server(far, nil)} {
		if p, err := PeerOf(c); err != nil || p != self {
			t.Errorf("%T: %v, %v, want %v", c, p, err, self)
		}
	}
	_ = far.Close()
	if p, err := PeerOf(far); err == nil {
		t.Errorf("a closed connection has peer %v", p)
	}

	pipe, _ := net.Pipe()
	defer pipe.Close()
	for remote, want := range map[net.Addr]Peer{
		Addr{Transport: VM, CID: 2, Port: 7}:        vmPeer(2, 7),
		&mdvsock.Addr{ContextID: 5, Port: 8}:        vmPeer(5, 8),
		Addr{Transport: Hybrid, Path: "x", Port: 7}: {},
		nil: {},
	} {
		p, err := PeerOf(addrConn{pipe, remote})
		if p != want || (err == nil) != (want != Peer{}) {
			t.Errorf("remote %v: peer %v, %v", remote, p, err)
		}
	}
}

// The kernel answers the question for TCP too, with nobody's ids.
func TestPeerOfTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if p, err := PeerOf(c); err == nil {
		t.Errorf("peer %v", p)
	}
	hl := HostOnly(l, Policy{})
	go func() { // the end of Accept's loop
		_, _ = c.Read(make([]byte, 1))
		_ = l.Close()
	}()
	if _, err := hl.Accept(); !errors.Is(err, net.ErrClosed) || hl.Refused() != 1 {
		t.Errorf("%v, %d refused", err, hl.Refused())
	}
}

func TestFromLibrary(t *testing.T) {
	if a := fromLibrary(&mdvsock.Addr{ContextID: 2, Port: 3}); a.String() != "vsock:2:3" {
		t.Errorf("%v", a)
	}
	for _, bad := range []net.Addr{nil, (*mdvsock.Addr)(nil), &net.TCPAddr{}} {
		if a := fromLibrary(bad); a.Transport != VM || a.CID == CIDHost {
			t.Errorf("%#v became %v", bad, a)
		}
	}
}

// dialAsOther, as environment, makes the test binary connect to that path and
// leave with 0 if it is turned away without a byte.
const dialAsOther = "VSOCK_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialAsOther); path != "" {
		os.Exit(runDialer(path))
	}
	check := watchLeaks()
	code := m.Run()
	if code == 0 {
		code = check()
	}
	os.Exit(code)
}

func runDialer(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 2
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return 3
	}
	return 0
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vsock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir + "/s"
}
