//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// A duplex is one side of a connection whose two directions end one by one.
type duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// splice moves bytes both ways until both directions have ended, passing on
// the end of each as it comes, and closes both sides. The end of ctx ends it.
func splice(ctx context.Context, a, b duplex) {
	closeBoth := sync.OnceFunc(func() {
		_ = a.Close()
		_ = b.Close()
	})
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var directions sync.WaitGroup
	move := func(dst, src duplex) {
		if _, err := io.Copy(dst, src); err != nil {
			closeBoth() // a broken connection is of no use in the other direction
			return
		}
		_ = dst.CloseWrite()
	}
	directions.Go(func() { move(a, b) })
	directions.Go(func() { move(b, a) })
	directions.Wait()
	closeBoth()
}

// dialSocket connects to the server under test.
func dialSocket(ctx context.Context, socket string) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// connect splices standard input and output with the socket. It returns when
// the server has ended the connection: a client that has ended its own half,
// as ssh does when it leaves, may still be waiting for bytes.
func connect(ctx context.Context, socket string) error {
	conn, err := dialSocket(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// Nothing can interrupt a read of standard input; the process's end will.
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.CloseWrite()
	}()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err = io.Copy(os.Stdout, conn); ctx.Err() != nil {
		return nil
	}
	return err
}

// listenTCP gives the socket a port of 127.0.0.1 and writes its number into
// portFile. It returns at the end of ctx, with every connection closed.
func listenTCP(ctx context.Context, socket, portFile string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := writeFile(portFile, fmt.Sprintln(port)); err != nil {
		l.Close()
		return err
	}
	return forward(ctx, l, socket)
}

// forward splices every connection of l with one to the socket, until the end
// of ctx.
func forward(ctx context.Context, l net.Listener, socket string) error {
	return accept(ctx, l, func(conn net.Conn) {
		server, err := dialSocket(ctx, socket)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sshlab:", err)
			conn.Close()
			return
		}
		splice(ctx, conn.(duplex), server)
	})
}

// accept hands every connection of l to a goroutine of its own, and waits for
// them all when ctx has ended.
func accept(ctx context.Context, l net.Listener, handle func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			return err
		}
		handlers.Go(func() { handle(conn) })
	}
}

// writeFile writes a file that others wait for: it is whole when it appears.
func writeFile(name, content string) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
