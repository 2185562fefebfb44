//go:build linux

package sshd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// errSilent ends a connection whose peer does not answer.
var errSilent = errors.New("the client does not answer")

// keepAlive asks a silent peer for a sign of life, and ends the connection
// where none comes: of a peer that vanished without a word nothing else tells.
// One that was quiet for an interval is asked; after keepAliveCount more of
// them it is given up.
func (c *conn) keepAlive(ctx context.Context, cancel context.CancelCauseFunc) {
	interval := c.server.config.KeepAlive
	if interval < 0 {
		return
	}
	var asked atomic.Bool
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		silent := c.wire.silence()
		switch {
		case silent >= (1+keepAliveCount)*interval:
			cancel(errSilent)
			return
		case silent >= interval && asked.CompareAndSwap(false, true):
			// The reply ends the silence, whatever it says.
			c.tasks.Go(func() {
				_, _, _ = c.transport.SendRequest(requestKeepAlive, true, nil)
				asked.Store(false)
			})
		}
		timer.Reset(max(interval-silent%interval, interval/2))
	}
}
