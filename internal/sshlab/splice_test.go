//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// limit is how long anything here may take on a busy machine.
const limit = 30 * time.Second

// echo serves a unix socket that answers only after its client has ended its
// half of the connection.
func echo(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	runInBackground(t, func(ctx context.Context) error {
		return accept(ctx, l, func(conn net.Conn) {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			data, _ := io.ReadAll(conn)
			_, _ = conn.Write(data)
		})
	})
	return socket
}

// runInBackground runs serve until the end of the test, and waits for its end.
func runInBackground(t *testing.T, serve func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(limit):
			t.Error("no end after the context's")
		}
	})
}

// forwarded returns the address of a TCP port that leads to socket.
func forwarded(t *testing.T, socket string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runInBackground(t, func(ctx context.Context) error { return forward(ctx, l, socket) })
	return l.Addr().String()
}

func TestForwardPassesHalfClose(t *testing.T) {
	conn, err := net.Dial("tcp", forwarded(t, echo(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	want := make([]byte, 3<<20)
	_, _ = rand.Read(want)
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v, want the %d that were sent", len(got), err, len(want))
	}
}

func TestForwardWithoutServer(t *testing.T) {
	conn, err := net.Dial("tcp", forwarded(t, filepath.Join(t.TempDir(), "nobody")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("got %d bytes, %v, want a closed connection", n, err)
	}
}

// TestForwardEnds holds an idle connection while the forward is ended: the
// cleanup of forwarded fails if that keeps it alive.
func TestForwardEnds(t *testing.T) {
	var conn net.Conn
	// Before forwarded's, so that it runs after it.
	t.Cleanup(func() { _ = conn.Close() })
	address := forwarded(t, echo(t))
	var err error
	if conn, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}
