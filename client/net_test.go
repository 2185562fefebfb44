//go:build linux

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/guestd/guestd/client"
)

// listenHere listens where the agent, which is in this process, is.
func listenHere(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "client")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	l := must[net.Listener](t)(net.Listen(network, address))
	t.Cleanup(func() { l.Close() })
	return l
}

// meet connects through the client to l.
func meet(t *testing.T, c *client.Client, l net.Listener) (near, far net.Conn) {
	t.Helper()
	near = must[net.Conn](t)(c.DialContext(within(t), l.Addr().Network(), l.Addr().String()))
	far = must[net.Conn](t)(l.Accept())
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}

func TestNetConn(t *testing.T) {
	c, _ := live(t)
	for _, network := range []string{"tcp", "unix"} {
		l := listenHere(t, network)
		t.Run("dial "+network, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				near, far := meet(t, c, l)
				return near, far, func() {
					_ = near.Close()
					_ = far.Close()
				}, nil
			})
		})
	}
	t.Run("both ends", func(t *testing.T) {
		l := must[net.Listener](t)(c.Listen(within(t), "tcp", "localhost:0"))
		defer l.Close()
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			if c1, err = c.DialContext(within(t), "tcp", l.Addr().String()); err != nil {
				return nil, nil, nil, err
			}
			if c2, err = l.Accept(); err != nil {
				return nil, nil, nil, err
			}
			return c1, c2, func() {
				_ = c1.Close()
				_ = c2.Close()
			}, nil
		})
	})
}

func TestNetHalfClose(t *testing.T) {
	c, _ := live(t)
	near, far := meet(t, c, listenHere(t, "tcp"))
	if near.RemoteAddr().String() != far.LocalAddr().String() || near.LocalAddr().String() != far.RemoteAddr().String() {
		t.Errorf("%v → %v is %v → %v to the guest", near.LocalAddr(), near.RemoteAddr(), far.RemoteAddr(), far.LocalAddr())
	}
	big := bytes.Repeat([]byte("half-close"), 500_000)
	var writing sync.WaitGroup
	writing.Go(func() {
		if n, err := near.Write(big); n != len(big) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := near.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	writing.Wait()
	if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after CloseWrite: %v", err)
	}
	writing.Go(func() {
		_, _ = far.Write(big)
		_ = far.Close()
	})
	if got, err := io.ReadAll(near); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	writing.Wait()
}

// What was written before Close arrives, and then an end; what ends otherwise
// is an error.
func TestNetEnds(t *testing.T) {
	c, line := live(t)
	l := listenHere(t, "tcp")
	near, far := meet(t, c, l)
	big := bytes.Repeat([]byte("x"), 3<<20)
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = near.Write(big)
		_ = near.Close()
	})
	if got, err := io.ReadAll(far); err != nil || len(got) != len(big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	writing.Wait()
	if err := near.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}

	near, far = meet(t, c, l)
	if err := far.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	_, err := near.Read(make([]byte, 1))
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
		t.Errorf("after a reset: %v", err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write after a reset: %v", err)
	}

	near, far = meet(t, c, l)
	if err := near.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	if got, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) || string(got) != "last words" {
		t.Errorf("closed with a linger of 0: %q, %v", got, err)
	}

	// Who does not read does not hold it up for long.
	near, far = meet(t, c, l)
	if err := near.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	writing.Go(func() {
		for {
			if _, err := near.Write(big); err != nil {
				return
			}
		}
	})
	if _, err := io.ReadFull(far, make([]byte, len(big))); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	writing.Wait()
	_ = far.SetWriteDeadline(time.Now().Add(time.Minute))
	for err = nil; err == nil; time.Sleep(time.Millisecond) {
		_, err = far.Write([]byte("x"))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("reset before all was taken: %v", err)
	}

	near, far = meet(t, c, l)
	line.cut()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("without the agent: %v", err)
	}
	if _, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without the host: %v", err)
	}
	// The next one connects again.
	meet(t, c, l)

	near, far = meet(t, c, l)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the client's Close: %v", err)
	}
	if _, err := io.ReadAll(far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest's end: %v", err)
	}
	if _, err := c.DialContext(within(t), "tcp", l.Addr().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after Close: %v", err)
	}
}

func TestNetDialErrors(t *testing.T) {
	c, _ := live(t)
	l := listenHere(t, "tcp")
	nobody := l.Addr().String()
	_ = l.Close()
	for _, test := range []struct {
		network, address string
		want             error
		text             string
	}{
		{"tcp", nobody, syscall.ECONNREFUSED, "dial tcp " + nobody + ": connect: connection refused"},
		{"unix", "/nowhere/at/all", os.ErrNotExist, "dial unix /nowhere/at/all: connect: no such file or directory"},
		{"tcp", "no-such-host.invalid:80", client.ErrUnknownHost, "dial tcp no-such-host.invalid:80: lookup no-such-host.invalid: no such host"},
		{"tcp", "nonsense", client.ErrInvalidRequest, `dial tcp nonsense: tcp address "nonsense" is not HOST:PORT`},
		{"icmp", "127.0.0.1:1", client.ErrInvalidRequest, `dial icmp 127.0.0.1:1: icmp address "127.0.0.1:1" is of no known network`},
	} {
		conn, err := c.DialContext(within(t), test.network, test.address)
		if err == nil {
			_ = conn.Close()
		}
		var op *net.OpError
		if !errors.Is(err, test.want) || !errors.As(err, &op) || err.Error() != test.text {
			t.Errorf("%s %s: %v, want %v", test.network, test.address, err, test.text)
		}
	}
	var dns *net.DNSError
	if _, err := c.DialContext(within(t), "tcp", "no-such-host.invalid:80"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("%v", err)
	}
	if _, err := c.DialAs(within(t), "nobody-at-all", "tcp", nobody); !errors.Is(err, client.ErrUnknownUser) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.DialContext(ctx, "tcp", nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNetUDP(t *testing.T) {
	c, _ := live(t)
	server := must[net.PacketConn](t)(net.ListenPacket("udp", "127.0.0.1:0"))
	defer func() { _ = server.Close() }()
	conn := must[net.Conn](t)(c.DialContext(within(t), "udp", server.LocalAddr().String()))
	defer func() { _ = conn.Close() }()
	b := make([]byte, 1<<16)
	for _, size := range []int{1, 0, 65507, 1400} {
		if n, err := conn.Write(b[:size]); n != size || err != nil {
			t.Fatal(n, err)
		}
		n, from, err := server.ReadFrom(b)
		if err != nil || n != size {
			t.Fatalf("%d of %d, %v", n, size, err)
		}
		if _, err := server.WriteTo(b[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(b); n != size || err != nil {
			t.Fatalf("%d of %d, %v", n, size, err)
		}
	}
	if _, err := conn.Write(make([]byte, 65508)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("%v", err)
	}
	// One message each, also when they wait together, and what does not fit is
	// cut.
	for _, text := range []string{"first", "second"} {
		if _, err := server.WriteTo([]byte(text), conn.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := conn.Read(b[:3]); n != 3 || err != nil {
		t.Error(n, err)
	}
	if n, err := conn.Read(b); string(b[:n]) != "second" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestNetHTTP(t *testing.T) {
	c, _ := live(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	transport := &http.Transport{DialContext: c.DialContext}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport}
	var asking sync.WaitGroup
	for i := range 20 {
		asking.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i*50_000)
			response, err := web.Post(server.URL, "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
			}
		})
	}
	asking.Wait()
}

func TestNetListen(t *testing.T) {
	c, _ := live(t)
	l := must[net.Listener](t)(c.Listen(within(t), "tcp", "localhost:0"))
	if _, err := c.Listen(within(t), "tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("twice: %v", err)
	}
	// A server of the standard library serves the guest.
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from the host") })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := new(http.Transport)
	web := &http.Client{Transport: transport}
	response := must[*http.Response](t)(web.Get("http://" + l.Addr().String()))
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != "from the host" {
		t.Errorf("%q, %v", got, err)
	}
	_ = response.Body.Close()
	transport.CloseIdleConnections()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}

	path := filepath.Join(t.TempDir(), "s")
	unix := must[net.Listener](t)(c.ListenWith(within(t), "unix", path, client.ListenOptions{Mode: 0o666}))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	far := must[net.Conn](t)(net.Dial("unix", path))
	near := must[net.Conn](t)(unix.Accept())
	if err := unix.Close(); err != nil {
		t.Error(err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = far.Close()
	if got, err := io.ReadAll(near); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	_ = near.Close()
}

func TestNetListenLost(t *testing.T) {
	c, line := live(t)
	l := must[net.Listener](t)(c.Listen(within(t), "tcp", "localhost:0"))
	defer l.Close()
	line.cut()
	if _, err := l.Accept(); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	again := must[net.Listener](t)(c.Listen(within(t), "tcp", "localhost:0"))
	_ = again.Close()
}

func TestPorts(t *testing.T) {
	c, line := live(t)
	l := listenHere(t, "tcp")
	mine := func(p client.Port) bool { return p.Addr.String() == l.Addr().String() }
	ports := must[[]client.Port](t)(c.Ports(within(t)))
	i := slices.IndexFunc(ports, mine)
	if i < 0 || ports[i].PID != os.Getpid() || ports[i].Network != "tcp" || ports[i].UID != os.Getuid() || ports[i].Name == "" {
		t.Fatalf("%+v", ports)
	}
	watch := must[*client.PortWatch](t)(c.WatchPorts(within(t)))
	defer func() { _ = watch.Close() }()
	change := must[client.PortChange](t)(watch.Next())
	if !slices.ContainsFunc(change.Opened, mine) {
		t.Errorf("%+v", change)
	}
	_ = l.Close()
	for change, err := range watch.Changes() {
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(change.Closed, mine) {
			break
		}
	}
	line.cut()
	for {
		if _, err := watch.Next(); err != nil {
			if !errors.Is(err, client.ErrUnavailable) {
				t.Error(err)
			}
			break
		}
	}
}

// A deadline that is moved while somebody waits for it counts as it is now.
func TestNetDeadlineMoves(t *testing.T) {
	c, _ := live(t)
	near, far := meet(t, c, listenHere(t, "tcp"))
	_ = near.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = near.SetReadDeadline(time.Time{})
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := near.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
