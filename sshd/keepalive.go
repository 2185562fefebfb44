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
// them it is given up. They are counted, not measured: where a machine was
// paused and its clock went on, the silence is long before anybody was asked.
func (c *conn) keepAlive(ctx context.Context, cancel context.CancelCauseFunc) {
	interval := c.server.config.KeepAlive
	if interval < 0 {
		return
	}
	var asking atomic.Bool
	timer := time.NewTimer(interval)
	defer timer.Stop()
	heard, unanswered := int64(0), 0
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if now := c.wire.heard.Load(); now != heard {
			heard, unanswered = now, 0
		}
		silent := c.wire.silence()
		switch {
		case silent < interval:
		case unanswered == keepAliveCount:
			cancel(errSilent)
			return
		default:
			unanswered++
			c.ask(&asking)
		}
		timer.Reset(max(interval-silent%interval, interval/2))
	}
}

// ask sends a request unless an earlier one is still under way. The reply ends
// the silence, whatever it says.
func (c *conn) ask(asking *atomic.Bool) {
	if !asking.CompareAndSwap(false, true) {
		return
	}
	c.tasks.Go(func() {
		_, _, _ = c.transport.SendRequest(requestKeepAlive, true, nil)
		asking.Store(false)
	})
}
