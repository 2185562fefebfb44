package conformance

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// network needs no server in the guest but the agent's own: what the host
// accepts for it can be dialed from inside.
func (s *suite) network(t *testing.T) {
	t.Run("half-close", s.netHalfClose)
	t.Run("reset", s.netReset)
	t.Run("slow beside fast", s.netSlow)
	t.Run("crowd", s.netCrowd)
	t.Run("refused", s.netRefused)
	t.Run("unix as user", s.netUnixUser)
	t.Run("UDP", s.netUDP)
	t.Run("connection lost", s.netLost)
	t.Run("ports", s.netPorts)
}

// netListen listens in the guest until the test ends.
func (s *suite) netListen(t *testing.T, network, address string, o client.ListenOptions) net.Listener {
	t.Helper()
	l, err := s.client.ListenWith(s.context(t), network, address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// netPair is a connection within the guest, of whose ends both are here.
func (s *suite) netPair(t *testing.T, l net.Listener) (dialed, accepted net.Conn) {
	t.Helper()
	dialed, err := s.client.DialContext(s.context(t), l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	limit := time.Now().Add(patience)
	for _, c := range []net.Conn{dialed, accepted} {
		if err := c.SetDeadline(limit); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return dialed, accepted
}

// size is smaller on a slow machine.
func (s *suite) size(bytes int) int {
	if s.target.Slow {
		return bytes / 8
	}
	return bytes
}

func (s *suite) netHalfClose(t *testing.T) {
	data := bytes.Repeat([]byte("half-close\n"), s.size(8<<20)/11)
	for _, where := range [][2]string{{"tcp", "localhost:0"}, {"unix", s.path(t, "s")}, {"unix", "@conformance-" + t.Name()}} {
		l := s.netListen(t, where[0], where[1], client.ListenOptions{})
		dialed, accepted := s.netPair(t, l)
		for _, way := range [][2]net.Conn{{dialed, accepted}, {accepted, dialed}} {
			var sending sync.WaitGroup
			sending.Go(func() {
				if _, err := way[0].Write(data); err != nil {
					t.Errorf("%s: write: %v", where[0], err)
				}
				if err := way[0].(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Errorf("%s: close write: %v", where[0], err)
				}
			})
			got, err := io.ReadAll(way[1])
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes of %d came, %v", where[0], len(got), len(data), err)
			}
			sending.Wait()
		}
		l.Close()
	}
}

func (s *suite) netReset(t *testing.T) {
	l := s.netListen(t, "tcp", "localhost:0", client.ListenOptions{})
	dialed, accepted := s.netPair(t, l)
	if err := dialed.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if _, err := dialed.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	dialed.Close()
	if got, err := io.ReadAll(accepted); !errors.Is(err, syscall.ECONNRESET) || string(got) != "last words" {
		t.Errorf("a reset is read as %q, %v", got, err)
	}
	// A close is an end, behind all that was written.
	dialed, accepted = s.netPair(t, l)
	data := make([]byte, s.size(1<<20))
	if _, err := dialed.Write(data); err != nil {
		t.Fatal(err)
	}
	dialed.Close()
	if got, err := io.ReadAll(accepted); err != nil || len(got) != len(data) {
		t.Errorf("%d bytes of %d came before the end, %v", len(got), len(data), err)
	}
}

// netSlow fills a connection that nobody reads, and uses another meanwhile.
func (s *suite) netSlow(t *testing.T) {
	l := s.netListen(t, "tcp", "localhost:0", client.ListenOptions{})
	slow, _ := s.netPair(t, l)
	var filling sync.WaitGroup
	filling.Go(func() { _, _ = slow.Write(make([]byte, 64<<20)) })
	defer filling.Wait()
	defer slow.Close()
	dialed, accepted := s.netPair(t, l)
	b := make([]byte, 4)
	for range 100 {
		for _, way := range [][2]net.Conn{{dialed, accepted}, {accepted, dialed}} {
			if _, err := way[0].Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (s *suite) netCrowd(t *testing.T) {
	n := 100
	if s.target.Slow {
		n = 20
	}
	l := s.netListen(t, "tcp", "localhost:0", client.ListenOptions{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for range n {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(struct{ io.Writer }{conn}, conn)
			})
		}
	})
	for i := range n {
		serving.Go(func() {
			conn, err := s.client.DialContext(s.context(t), "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			data := bytes.Repeat([]byte{byte(i)}, 32<<10)
			if _, err := conn.Write(data); err != nil {
				t.Error(err)
			}
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, data) {
				t.Errorf("connection %d: %d bytes came back, %v", i, len(got), err)
			}
		})
	}
	serving.Wait()
}

func (s *suite) netRefused(t *testing.T) {
	l := s.netListen(t, "tcp", "localhost:0", client.ListenOptions{})
	if _, err := s.client.Listen(s.context(t), "tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen twice: %v", err)
	}
	l.Close()
	eventually(t, "the port is refused", func() bool {
		conn, err := s.client.DialContext(s.context(t), "tcp", l.Addr().String())
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	var op *net.OpError
	var dns *net.DNSError
	if _, err := s.client.DialContext(s.context(t), "tcp", "no-such-host.invalid:80"); !errors.As(err, &op) || !errors.As(err, &dns) || !errors.Is(err, client.ErrUnknownHost) {
		t.Errorf("unknown host: %v", err)
	}
	if _, err := s.client.DialContext(s.context(t), "unix", s.path(t, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	if _, err := s.client.DialContext(s.context(t), "tcp", "nonsense"); !errors.Is(err, client.ErrInvalidRequest) {
		t.Errorf("nonsense: %v", err)
	}
}

func (s *suite) netUnixUser(t *testing.T) {
	user := s.needUser(t)
	own := s.netListen(t, "unix", s.path(t, "own"), client.ListenOptions{})
	if _, err := s.client.DialAs(s.context(t), user, "unix", own.Addr().String()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a socket of the agent's alone: %v", err)
	}
	theirs := s.netListen(t, "unix", s.path(t, "theirs"), client.ListenOptions{User: user, Mode: 0o640})
	if got := s.sh(t, "stat -c %%u:%%g:%%a %s", theirs.Addr()); got != user+":640" {
		t.Errorf("the user's socket is %s", got)
	}
	conn, err := s.client.DialAs(s.context(t), user, "unix", theirs.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	locked := s.path(t, "locked")
	if err := s.client.Files().Mkdir(s.context(t), locked, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.ListenWith(s.context(t), "unix", locked+"/s", client.ListenOptions{User: user}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("in a directory of the agent's: %v", err)
	}
	theirs.Close()
	eventually(t, "the file is gone", func() bool {
		_, err := s.client.Files().Lstat(s.context(t), theirs.Addr().String())
		return errors.Is(err, fs.ErrNotExist)
	})
}

// udpServer is a program of the guest that sends back what comes.
const udpServer = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data, peer)
`

func (s *suite) netUDP(t *testing.T) {
	port := s.startServer(t, udpServer)
	conn, err := s.client.DialContext(s.context(t), "udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for _, size := range []int{1, 0, 1400, 65507} {
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(b); n != size || err != nil {
			t.Errorf("a datagram of %d bytes has %d, %v", size, n, err)
		}
	}
}

// netLost cuts the line: the guest's ends see an error, and the next connection
// needs nothing done.
func (s *suite) netLost(t *testing.T) {
	l := s.netListen(t, "tcp", "localhost:0", client.ListenOptions{})
	second := s.connect(t, s.target.Dial)
	defer second.Close()
	theirs, err := second.Listen(s.context(t), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	mine, err := s.client.DialContext(s.context(t), "tcp", theirs.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	far, err := theirs.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	s.line.cut()
	if _, err := mine.Read(make([]byte, 1)); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("without the agent: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("accept without the agent: %v", err)
	}
	if err := far.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest's other end reads %v", err)
	}
	again, err := s.client.DialContext(s.context(t), "tcp", theirs.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
