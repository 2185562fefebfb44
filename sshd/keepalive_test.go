//go:build linux

package sshd

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// answering is a transport whose peer answers every request at once.
type answering struct {
	ssh.Conn
	wire  *wire
	asked chan string
}

func (a answering) SendRequest(name string, _ bool, _ []byte) (bool, []byte, error) {
	a.wire.heard.Store(int64(time.Since(a.wire.made)))
	select {
	case a.asked <- name:
	default: // not the first one
	}
	return true, nil, nil
}

// However long the silence is, the peer is asked before it is given up: of a
// machine that was paused the clock may have gone on.
func TestKeepAliveAfterAPause(t *testing.T) {
	asked := make(chan string, 1)
	w := &wire{made: time.Now().Add(-time.Hour)}
	c := &conn{
		server:    &Server{config: Config{KeepAlive: 300 * time.Millisecond}},
		wire:      w,
		transport: &ssh.ServerConn{Conn: answering{wire: w, asked: asked}},
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { c.keepAlive(ctx, cancel) })
	select {
	case <-asked:
	case <-ctx.Done():
	}
	cancel(nil)
	keeping.Wait()
	c.tasks.Wait()
	if err := context.Cause(ctx); errors.Is(err, errSilent) {
		t.Error(err)
	}
}
