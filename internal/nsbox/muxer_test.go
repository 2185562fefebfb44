//go:build linux

package nsbox

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startMuxer serves a directory in which port 7 says what it got after the
// client has closed its direction.
func startMuxer(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", portPath(dir, 7))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				text, _ := io.ReadAll(conn)
				_, _ = io.WriteString(conn, "got "+string(text))
			}()
		}
	}()
	path = filepath.Join(dir, "mux.sock")
	m, err := listenMuxer(path, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return path
}

func talk(t *testing.T, path, text string, halfClose bool) (string, error) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if halfClose {
		_ = conn.(*net.UnixConn).CloseWrite()
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func TestMuxer(t *testing.T) {
	path := startMuxer(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// What follows the request in one write belongs to the guest, and half a
	// connection can be closed.
	if got, err := talk(t, path, "CONNECT 7\nhello", true); got != "OK 7\ngot hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	if got, err := talk(t, path, "CONNECT 7\n"+big, true); got != "OK 7\ngot "+big || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	for _, bad := range []string{
		"CONNECT 8\n", "CONNECT -7\n", "CONNECT 4294967303\n", "connect 7\n", "\n", "CONNECT ../7\n",
		"CONNECT 7", strings.Repeat("x", 1000),
	} {
		got, err := talk(t, path, bad, !strings.HasSuffix(bad, "\n"))
		// Bytes that were never read turn the close into a reset.
		if got != "" || (err != nil && !strings.Contains(err.Error(), "reset")) {
			t.Errorf("%q: got %q, %v", bad, got, err)
		}
	}
}

func TestMuxerCloseEndsConnections(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mux.sock")
	m, err := listenMuxer(path, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path) // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m.close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("read: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("CONNECT 1024\nrest")
	f.Add("CONNECT 99999999999999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := strings.NewReader(text)
		port, err := readRequest(r)
		if err != nil {
			return
		}
		line, rest, _ := strings.Cut(text, "\n")
		if got, err := parseRequest(line); err != nil || got != port {
			t.Errorf("%q: port %d, and %d, %v", text, port, got, err)
		}
		if r.Len() != len(rest) {
			t.Errorf("%q: %d bytes left, want %d", text, r.Len(), len(rest))
		}
	})
}
