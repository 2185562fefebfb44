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

// relayConns copies both ways, each with its own end, and closes both. What one
// side takes no more of is dropped, as there may still be something to come from
// it. Where it has ended in both directions, the other is closed; a connection
// that breaks breaks the other.
func relayConns(a, b net.Conn) {
	r := connRelay{sides: [2]relaySide{{Conn: a}, {Conn: b}}}
	var copying sync.WaitGroup
	copying.Go(func() { r.pass(&r.sides[0], &r.sides[1]) })
	r.pass(&r.sides[1], &r.sides[0])
	copying.Wait()
	r.end(func(c io.Closer) { _ = c.Close() })
}

// connRelay is two connections, of which each gets what comes from the other.
type connRelay struct {
	sides [2]relaySide
	once  sync.Once // they are closed once

	mu sync.Mutex // guards what follows of the sides
}

// relaySide is one of the connections.
type relaySide struct {
	net.Conn
	deaf, mute bool // it takes, or sends, nothing more
}

// end closes both.
func (r *connRelay) end(how func(io.Closer)) {
	r.once.Do(func() {
		how(r.sides[0].Conn)
		how(r.sides[1].Conn)
	})
}

// note takes down that s has ended in one direction, and closes both in order if
// that was the second one: what was sent before still arrives.
func (r *connRelay) note(s *relaySide, direction *bool) {
	r.mu.Lock()
	*direction = true
	gone := s.deaf && s.mute
	r.mu.Unlock()
	if gone {
		r.end(func(c io.Closer) { _ = c.Close() })
	}
}

// pass copies up to the end, and passes that on.
func (r *connRelay) pass(to, from *relaySide) {
	buf := make([]byte, forwardBuffer)
	for deaf := false; ; {
		n, err := from.Read(buf)
		if n > 0 && !deaf {
			if _, werr := to.Write(buf[:n]); werr != nil {
				deaf = true
				r.note(to, &to.deaf)
			}
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF):
			r.end(reset)
		default:
			if half, ok := to.Conn.(interface{ CloseWrite() error }); ok {
				// It fails where the other direction broke.
				_ = half.CloseWrite()
			}
			r.note(from, &from.mute)
		}
		return
	}
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
