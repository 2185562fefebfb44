package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// pair is both ends of a connection over a unix socket.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// A server that has answered and gone takes nothing more. What it said arrives
// all the same, whatever is sent to it meanwhile.
func TestRelayDeliversWhatWasSaid(t *testing.T) {
	const size = 96 << 10 // the server's buffer takes it, that of the relay does not
	client, a := pair(t)
	if err := a.(*net.UnixConn).SetWriteBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	b, server := pair(t)
	patience := time.Now().Add(30 * time.Second)
	_, _ = client.SetDeadline(patience), server.SetDeadline(patience)
	if _, err := server.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	var relaying sync.WaitGroup
	defer relaying.Wait()
	defer client.Close()
	relaying.Go(func() { relayConns(a, b) })
	// Either the relay has met the error by then, or it closes.
	for range 8 {
		if _, err := client.Write(make([]byte, forwardBuffer)); err != nil {
			break
		}
	}
	if n, err := io.Copy(io.Discard, client); n != size {
		t.Errorf("%d of %d bytes arrived, %v", n, size, err)
	}
}

// A side that has ended in both directions ends the other.
func TestRelayEndsWithOneSide(t *testing.T) {
	client, a := pair(t)
	b, server := pair(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		relayConns(a, b)
	}()
	client.Close()
	_ = server.SetDeadline(time.Now().Add(30 * time.Second))
	var err error
	for err == nil {
		_, err = server.Write(make([]byte, forwardBuffer))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server is not told that nobody listens")
	}
	<-ended
}
