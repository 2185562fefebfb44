//go:build linux

package nsbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// requestLimit is the longest request: CONNECT, ten digits, a newline.
	requestLimit = 32

	// requestTimeout bounds how long a client may think about its request.
	requestTimeout = 10 * time.Second
)

var errBadRequest = errors.New("not a CONNECT request")

// muxer serves a hybrid socket: a client says `CONNECT <port>\n`, gets
// `OK <port>\n`, and is then connected to the unix socket of that port. A port
// on which nobody listens is a closed connection, as with Firecracker. Unlike
// there, either side may close its direction alone.
type muxer struct {
	listener net.Listener
	dir      string // where the sockets of the ports are
	log      *slog.Logger

	conns sync.WaitGroup
	mu    sync.Mutex
	open  map[net.Conn]bool // nil once closed
}

// listenMuxer listens on path with mode 0600 and serves until close.
func listenMuxer(path, dir string, log *slog.Logger) (*muxer, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	m := &muxer{listener: l, dir: dir, log: log, open: make(map[net.Conn]bool)}
	m.conns.Go(m.accept)
	return m, nil
}

// portPath is the socket of one port.
func portPath(dir string, port uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%d.sock", port))
}

func (m *muxer) accept() {
	for {
		conn, err := m.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors: those that are open have to go on.
			m.log.Warn("accept", "error", err)
			time.Sleep(requestTimeout / 100)
			continue
		}
		if !m.track(conn) {
			conn.Close()
			return
		}
		m.conns.Go(func() {
			defer m.untrack(conn)
			if err := m.serve(conn.(*net.UnixConn)); err != nil {
				m.log.Debug("connection refused", "error", err)
			}
		})
	}
}

// track returns false once the muxer is closed.
func (m *muxer) track(conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		return false
	}
	m.open[conn] = true
	return true
}

func (m *muxer) untrack(conn net.Conn) {
	conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, conn)
}

// serve joins one client with the port it asks for, until both are done.
func (m *muxer) serve(client *net.UnixConn) error {
	_ = client.SetDeadline(time.Now().Add(requestTimeout))
	port, err := readRequest(client)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", portPath(m.dir, port))
	if err != nil {
		return err
	}
	if !m.track(conn) {
		return conn.Close()
	}
	defer m.untrack(conn)
	if _, err := fmt.Fprintf(client, "OK %d\n", port); err != nil {
		return err
	}
	_ = client.SetDeadline(time.Time{})
	guest := conn.(*net.UnixConn)
	var other sync.WaitGroup
	other.Go(func() { forward(guest, client) })
	forward(client, guest)
	other.Wait()
	return nil
}

// forward copies until the source ends, and passes the end on. When the
// destination takes no more, the source is told so: it may be waiting.
func forward(dst, src *net.UnixConn) {
	_, err := io.Copy(dst, src)
	_ = dst.CloseWrite()
	if err != nil {
		_ = src.CloseRead()
	}
}

// readRequest reads byte by byte: what follows the line belongs to the guest.
func readRequest(r io.Reader) (port uint32, err error) {
	var line [requestLimit]byte
	for n := range line {
		if _, err := io.ReadFull(r, line[n:n+1]); err != nil {
			return 0, err
		}
		if line[n] == '\n' {
			return parseRequest(string(line[:n]))
		}
	}
	return 0, errBadRequest
}

func parseRequest(line string) (port uint32, err error) {
	digits, found := strings.CutPrefix(line, "CONNECT ")
	number, err := strconv.ParseUint(digits, 10, 32)
	if !found || err != nil {
		return 0, fmt.Errorf("%w: %q", errBadRequest, line)
	}
	return uint32(number), nil
}

// close ends every connection and waits for them.
func (m *muxer) close() {
	m.listener.Close() // removes the socket's file
	m.mu.Lock()
	for conn := range m.open {
		conn.Close()
	}
	m.open = nil
	m.mu.Unlock()
	m.conns.Wait()
}
