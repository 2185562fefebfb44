//go:build linux

package sftp

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// patience bounds what must happen some time.
const patience = 30 * time.Second

// client speaks SFTP to one server, one request at a time unless a test sends
// and receives by itself.
type client struct {
	t      testing.TB
	conn   net.Conn
	lastID uint32
}

// answer is a packet from the server; fields is behind its id.
type answer struct {
	kind byte
	id   uint32
	fields
}

// packet makes a packet of values: uint32, uint64, byte, string (with its
// length) or []byte (as it is).
func packet(kind byte, values ...any) []byte {
	out := []byte{0, 0, 0, 0, kind}
	for _, v := range values {
		switch v := v.(type) {
		case uint32:
			out = binary.BigEndian.AppendUint32(out, v)
		case uint64:
			out = binary.BigEndian.AppendUint64(out, v)
		case byte:
			out = append(out, v)
		case string:
			out = appendString(out, v)
		case []byte:
			out = append(out, v...)
		default:
			panic(fmt.Sprintf("%T in a packet", v))
		}
	}
	return end(out, 0)
}

func (c *client) write(p []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// send sends a request and returns its id.
func (c *client) send(kind byte, values ...any) uint32 {
	c.t.Helper()
	c.lastID++
	c.write(packet(kind, append([]any{c.lastID}, values...)...))
	return c.lastID
}

// receive returns the next packet of the server.
func (c *client) receive() answer {
	c.t.Helper()
	a, err := c.tryReceive()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return a
}

func (c *client) tryReceive() (a answer, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return a, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return a, err
	}
	a.kind, a.rest = body[0], body[1:]
	a.id = a.uint32()
	return a, nil
}

// call sends a request and returns the answer to it.
func (c *client) call(kind byte, values ...any) answer {
	c.t.Helper()
	id := c.send(kind, values...)
	a := c.receive()
	if a.id != id {
		c.t.Fatalf("answer to request %d instead of %d", a.id, id)
	}
	return a
}

// status is the code of a call that gives a STATUS.
func (c *client) status(kind byte, values ...any) code {
	c.t.Helper()
	return c.statusOf(c.call(kind, values...))
}

func (c *client) statusOf(a answer) code {
	c.t.Helper()
	if a.kind != typeStatus {
		c.t.Fatalf("answer of type %d instead of a status", a.kind)
	}
	return code(a.uint32())
}

// open opens a file and returns its handle.
func (c *client) open(path string, flags uint32, attrs ...any) string {
	c.t.Helper()
	if len(attrs) == 0 {
		attrs = []any{uint32(0)}
	}
	return c.handleOf(c.call(typeOpen, append([]any{path, flags}, attrs...)...))
}

func (c *client) handleOf(a answer) string {
	c.t.Helper()
	if a.kind != typeHandle {
		c.t.Fatalf("answer of type %d (code %d) instead of a handle", a.kind, a.uint32())
	}
	return string(a.bytes())
}

// hello sends INIT and returns the extensions of the answer.
func (c *client) hello() map[string]string {
	c.t.Helper()
	c.write(packet(typeInit, uint32(protocolVersion)))
	a := c.receive()
	if a.kind != typeVersion || a.id != protocolVersion {
		c.t.Fatalf("answer to INIT: type %d, version %d", a.kind, a.id)
	}
	extensions := map[string]string{}
	for len(a.rest) > 0 {
		name := string(a.bytes())
		extensions[name] = string(a.bytes())
	}
	return extensions
}

// ownFiles is the view of the test's own user with the base dir.
func ownFiles(t testing.TB, dir string) *fsops.FS {
	t.Helper()
	system, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := system.Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// nobodysFiles is the view of a user who owns nothing, and whom no program runs
// as. It takes root, and makes dir one that others may come to.
func nobodysFiles(t testing.TB, dir string) *fsops.FS {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	system, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := system.AsUser("65534:65533", dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// startServer serves a session in dir and returns its client. What Serve
// returns is sent on the channel.
func startServer(t testing.TB, dir string, server Server) (*client, <-chan error) {
	t.Helper()
	if server.Files == nil {
		server.Files = ownFiles(t, dir)
	}
	near, far := socketPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := server.Serve(ctx, far)
		far.Close()
		served <- err
	}()
	t.Cleanup(func() {
		near.Close()
		cancel()
		<-ended
	})
	return &client{t: t, conn: near}, served
}

// newClient is startServer behind INIT.
func newClient(t *testing.T, dir string, server Server) *client {
	t.Helper()
	c, _ := startServer(t, dir, server)
	c.hello()
	return c
}

// socketPair returns the two ends of a stream.
func socketPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return ends[0], ends[1]
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, elements ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
