//go:build linux

package sshd

import (
	"context"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// The types of channels.
const kindSession = "session"

// A channelHandler serves one channel that the peer wants to open, in a
// goroutine of its own, and returns when the channel has ended. It accepts or
// rejects it. ctx ends with the connection.
type channelHandler func(ctx context.Context, offer ssh.NewChannel)

// channelHandler returns what serves a type of channel; nil is nothing.
func (c *conn) channelHandler(kind string) channelHandler {
	switch kind {
	case kindSession:
		return c.serveSession
	case kindDirectTCP:
		return c.serveDirectTCP
	case kindDirectUnix:
		return c.serveDirectUnix
	}
	return nil
}

// open has a channel served. It never waits: what comes over the connection
// waits for it.
func (c *conn) open(ctx context.Context, offer ssh.NewChannel) {
	handler := c.channelHandler(offer.ChannelType())
	if handler == nil {
		_ = offer.Reject(ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if offer.ChannelType() == kindSession && c.noMoreSessions {
		_ = offer.Reject(ssh.Prohibited, "no more sessions")
		return
	}
	if !c.enter() {
		_ = offer.Reject(ssh.ResourceShortage, "too many channels")
		return
	}
	c.tasks.Go(func() {
		defer c.leave()
		handler(ctx, offer)
	})
}

// enter counts a channel, if there may be one more.
func (c *conn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.channels >= c.server.config.MaxChannels {
		return false
	}
	c.channels++
	return true
}

func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels--
}

// lastAdjustments is how long a channel to a client that adjustsLate stays open
// after the end of its data. Python's threads change every 5 ms.
const lastAdjustments = 50 * time.Millisecond

// A channel is an open channel that is known to the connection's backlog. Its
// Read is for one goroutine.
type channel struct {
	ssh.Channel
	in      *input
	discard sync.WaitGroup
	linger  time.Duration // before it is closed
}

// newChannel takes over a channel that has just been opened. The caller calls
// ended after the end of its requests, which is its own end.
func (c *conn) newChannel(open ssh.Channel) *channel {
	ch := &channel{Channel: open, in: newInput(open, c.backlog)}
	if c.client().adjustsLate() {
		ch.linger = lastAdjustments
	}
	// A peer may also send what only servers have a use for.
	ch.discard.Go(func() {
		buf := make([]byte, 512)
		for {
			n, err := open.Stderr().Read(buf)
			c.backlog.read(n)
			if err != nil {
				return
			}
		}
	})
	return ch
}

// Read reads what the peer sends.
func (ch *channel) Read(b []byte) (int, error) { return ch.in.Read(b) }

// Close closes our side. It may take a moment; the peer has long had the end of
// the data, if CloseWrite was called before.
func (ch *channel) Close() error {
	time.Sleep(ch.linger)
	return ch.Channel.Close()
}

// ended releases what belongs to the channel, which has ended.
func (ch *channel) ended() {
	ch.in.close()
	ch.discard.Wait()
}
