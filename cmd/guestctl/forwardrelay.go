package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

// forwardBuffer is what one direction of a connection copies at once.
const forwardBuffer = 64 << 10

// carry connects an accepted connection with its target, and copies both ways
// until both have ended.
func (fw *forwarding) carry(ctx context.Context, spec *forwardSpec, conn net.Conn) {
	if !fw.keep(conn) {
		return
	}
	defer fw.drop(conn)
	far, err := fw.dial(ctx, spec)
	if err != nil {
		reset(conn)
		if ctx.Err() == nil {
			fw.complain(fmt.Errorf("forward %s: %w", spec.text, err))
		}
		return
	}
	if !fw.keep(far) {
		reset(conn)
		return
	}
	defer fw.drop(far)
	relayConns(conn, far)
}

// relayConns copies both ways, each with its own end, and closes both. A
// connection that breaks breaks the other.
func relayConns(a, b net.Conn) {
	var copying sync.WaitGroup
	var once sync.Once
	broken := false
	pass := func(to, from net.Conn) {
		if err := copyConn(to, from); err != nil {
			once.Do(func() {
				broken = true
				reset(a)
				reset(b)
			})
		}
	}
	copying.Go(func() { pass(a, b) })
	pass(b, a)
	copying.Wait()
	if !broken {
		_ = a.Close()
		_ = b.Close()
	}
}

// copyConn copies up to the end, and passes that on.
func copyConn(to, from net.Conn) error {
	// Without the methods that copy by themselves, which use larger buffers or
	// none of ours.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, forwardBuffer))
	if err != nil {
		return err
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		// It fails where the other direction broke.
		_ = half.CloseWrite()
	}
	return nil
}

// reset closes a connection so that the other end sees an error.
func reset(c io.Closer) {
	if l, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

// listenLocal listens on this machine. A unix socket is for its owner alone, and
// replaces one that nobody listens on any more.
func listenLocal(ctx context.Context, at endpoint) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, at.network, at.address)
	if at.network != "unix" || strings.HasPrefix(at.address, "@") {
		return l, err
	}
	if isInUse(err) && isStale(ctx, at.address) && os.Remove(at.address) == nil {
		l, err = config.Listen(ctx, at.network, at.address)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(at.address, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// isStale reports whether a file is a unix socket on which nobody listens.
func isStale(ctx context.Context, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
