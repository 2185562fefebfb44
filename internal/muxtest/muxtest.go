//go:build linux

// Package muxtest is a double of the vsock multiplexer in a VMM, for tests.
//
// A host connects to the unix socket of a [Mux] and asks for a guest port, as
// it would with Firecracker's; the Mux forwards to a guest's listener, which
// is a unix socket ([Mux.Register]) or lives in the test ([Mux.Listen]). The
// guest dials the host with [Mux.DialHost].
//
// It exists for its faults. A protocol that works over unix sockets may still
// lose data behind a VMM, and a real VMM is slow to start and does not misbehave
// when asked. The zero [Config] behaves as Firecracker does: no half-close, a
// 64 KiB buffer towards the host, a guest's close cut after two seconds, 1023
// connections, CONNECT read only once.
package muxtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/vsock"
)

// What Firecracker does.
const (
	defaultBuffer    = 64 << 10
	defaultCloseCut  = 2 * time.Second
	defaultMaxConns  = 1023
	firstHostPort    = 1 << 30
	guestListenQueue = 1024
)

// GuestCID is the guest's CID in the addresses of its connections.
const GuestCID = 3

// A Config chooses the faults. Its zero value is Firecracker.
type Config struct {
	// HalfClose passes the end of one direction on as such, in both
	// directions. Without it the host's end of stream ends the connection: the
	// guest reads what was sent and then the end, and its writes fail with
	// EPIPE; what it wrote and the host did not get is lost. The guest's end
	// of stream does not reach the host before the guest closes altogether.
	HalfClose bool

	// CloseCut is how long a connection lives after the guest has closed it
	// while the host has not taken all data; the rest is lost. Zero means 2 s,
	// negative means for ever.
	CloseCut time.Duration

	// Buffer is how many bytes to the host a connection holds before the guest
	// blocks, beyond the kernel's socket buffers. Zero means 64 KiB.
	Buffer int

	// MaxConns is how many connections there may be, those which are still
	// asking for a port included; one more is closed at once. Zero means 1023.
	MaxConns int

	// ToHostRate and ToGuestRate make a slow reader of the host or the guest:
	// bytes per second of each connection. Zero means no limit.
	ToHostRate, ToGuestRate int

	// ReplyGuestPort answers "OK <guest port>" as vhost-device-vsock does.
	// Without it the number is the host's port: 1073741824 and up.
	ReplyGuestPort bool

	// SplitReply lets the host read the reply only byte by byte.
	SplitReply bool

	// DropEarly loses what the host sends before the OK, as vhost-device-vsock
	// does.
	DropEarly bool

	// PatientConnect waits for the rest of a CONNECT line. Without it a line
	// that does not arrive in one piece ends the connection.
	PatientConnect bool
}

// withDefaults fills in Firecracker's numbers.
func (c Config) withDefaults() Config {
	if c.CloseCut == 0 {
		c.CloseCut = defaultCloseCut
	}
	if c.Buffer == 0 {
		c.Buffer = defaultBuffer
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	return c
}

// A Mux is a running multiplexer. Its methods may be called from any goroutine.
type Mux struct {
	cfg      Config
	path     string
	listener *net.UnixListener
	hangups  *hangups
	wg       sync.WaitGroup // the accept loop and one goroutine of each link

	mu       sync.Mutex
	closed   bool
	links    map[*link]struct{}
	ports    map[uint32]guestDial
	hostPort uint32 // the next link's
}

// guestDial connects l to what the guest has on a port and returns the
// multiplexer's end.
type guestDial func(l *link) (*net.UnixConn, error)

// Start runs a multiplexer until the test ends; by then all its connections
// are closed and all its goroutines gone.
func Start(t testing.TB, cfg Config) *Mux {
	t.Helper()
	// Not t.TempDir: with a long test name the path would not fit a sockaddr.
	dir, err := os.MkdirTemp("", "muxtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "vm.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHangups()
	if err != nil {
		_ = l.Close()
		t.Fatal(err)
	}
	m := &Mux{
		cfg:      cfg.withDefaults(),
		path:     path,
		listener: l,
		hangups:  h,
		links:    make(map[*link]struct{}),
		ports:    make(map[uint32]guestDial),
		hostPort: firstHostPort,
	}
	m.wg.Go(m.accept)
	t.Cleanup(m.close)
	return m
}

func (m *Mux) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	_ = m.listener.Close()
	m.ResetAll()
	m.wg.Wait()
	m.hangups.close()
}

// Path returns the host's unix socket.
func (m *Mux) Path() string { return m.path }

// Addr returns the address at which a host dials the guest's port, and listens
// for the guest's dials to the host's port.
func (m *Mux) Addr(port uint32) vsock.Addr {
	return vsock.Addr{Transport: vsock.Hybrid, Path: m.path, Port: port}
}

// Dialer returns a function that dials the guest's port as a host does.
func (m *Mux) Dialer(port uint32) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, m.Addr(port)) }
}

// Register forwards the guest's port to the unix socket path, where a guest
// listens. A port whose socket does not answer is refused, as is a port that
// nobody registered.
func (m *Mux) Register(port uint32, path string) {
	m.setPort(port, func(*link) (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	})
}

// Unregister refuses the guest's port from now on.
func (m *Mux) Unregister(port uint32) { m.setPort(port, nil) }

func (m *Mux) setPort(port uint32, d guestDial) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d == nil {
		delete(m.ports, port)
		return
	}
	m.ports[port] = d
}

func (m *Mux) dialGuest(port uint32, l *link) (*net.UnixConn, error) {
	m.mu.Lock()
	d := m.ports[port]
	m.mu.Unlock()
	if d == nil {
		return nil, syscall.ECONNREFUSED
	}
	return d(l)
}

// DialHost connects the guest to the host's port, where the host listens on
// the socket [Mux.Path] + "_" + port. A failure is ECONNRESET, whatever the
// reason: that is what a guest's kernel makes of it.
func (m *Mux) DialHost(ctx context.Context, port uint32) (net.Conn, error) {
	remote := vsock.Addr{Transport: vsock.VM, CID: vsock.CIDHost, Port: port}
	refuse := func(err error) error { return &net.OpError{Op: "dial", Addr: remote, Err: err} }
	var d net.Dialer
	host, err := d.DialContext(ctx, "unix", m.path+"_"+strconv.FormatUint(uint64(port), 10))
	if ctx.Err() != nil {
		return nil, refuse(ctx.Err())
	}
	if err != nil {
		return nil, refuse(syscall.ECONNRESET)
	}
	l := m.addLink(host.(*net.UnixConn))
	if l == nil {
		return nil, refuse(syscall.ECONNRESET)
	}
	local := vsock.Addr{Transport: vsock.VM, CID: GuestCID, Port: l.hostPort}
	ours, theirs, err := guestPair(l, local, remote)
	if err != nil {
		l.finish()
		return nil, refuse(err)
	}
	m.wg.Go(func() {
		defer l.finish()
		l.forward(ours)
	})
	return theirs, nil
}

// ResetAll ends all connections at once and whatever they hold, as restoring a
// snapshot does; the listeners of both sides stay. It returns when they are
// gone. A guest's connection from [Mux.Listen] or [Mux.DialHost] then fails
// with ECONNRESET; behind a unix socket the guest may see the end of the
// stream instead, which is all that the kernel offers.
func (m *Mux) ResetAll() {
	m.mu.Lock()
	links := make([]*link, 0, len(m.links))
	for l := range m.links {
		links = append(links, l)
	}
	m.mu.Unlock()
	for _, l := range links {
		l.reset.Store(true)
		l.kill()
	}
	for _, l := range links {
		<-l.finished
	}
}

// Conns returns how many connections there are, those included which are still
// asking for a port.
func (m *Mux) Conns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.links)
}

// accept runs until the listener is closed.
func (m *Mux) accept() {
	for {
		host, err := m.listener.AcceptUnix()
		if err != nil {
			return
		}
		if l := m.addLink(host); l != nil {
			m.wg.Go(func() {
				defer l.finish()
				l.serveHost()
			})
		}
	}
}

// addLink takes over host. At the limit it closes host and returns nil.
func (m *Mux) addLink(host *net.UnixConn) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.links) >= m.cfg.MaxConns {
		_ = host.Close()
		return nil
	}
	l := newLink(m, host, m.hostPort)
	m.hostPort++
	m.links[l] = struct{}{}
	return l
}

func (m *Mux) removeLink(l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.links, l)
}
