//go:build linux

package sshd

import (
	"context"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// A carried connection can end one direction, as TCP and unix sockets can.
type carried interface {
	net.Conn
	CloseWrite() error
}

// carry joins a channel and a connection of the guest until both directions
// have ended, or the channel has. The end of one direction is passed on and
// leaves the other alone; what was sent before is delivered. Where the guest's
// end has gone in both, the channel is closed: nothing else tells the peer that
// its data go nowhere.
func (c *conn) carry(ctx context.Context, open ssh.Channel, requests <-chan *ssh.Request, other carried) {
	defer context.AfterFunc(ctx, func() { _ = other.Close() })()
	ch := c.newChannel(open)
	var inward, tasks sync.WaitGroup
	taken := make(chan struct{}) // closed when the guest's end takes nothing more
	inward.Go(func() { c.carryIn(ch, other, sync.OnceFunc(func() { close(taken) })) })
	tasks.Go(func() {
		c.carryOut(ch, other)
		<-taken
		_ = ch.Close()
	})
	for r := range requests {
		c.backlog.read(len(r.Payload))
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	// The channel has ended. What had come before is still delivered.
	inward.Wait()
	_ = other.Close()
	tasks.Wait()
	ch.ended()
}

// carryIn copies from the channel to its end, and calls ended once nothing more
// is taken. What comes after that is dropped, as the peer may still be waiting
// for what comes the other way.
func (c *conn) carryIn(ch *channel, other carried, ended func()) {
	defer ended()
	buffer := elastic{pool: &c.server.copies, memory: c.memory}
	defer buffer.release()
	taken := true
	for n := 0; ; {
		buf := buffer.next(n)
		var err error
		n, err = ch.Read(buf)
		if n > 0 && taken {
			if _, werr := other.Write(buf[:n]); werr != nil {
				taken = false
				ended()
			}
		}
		if err != nil {
			_ = other.CloseWrite()
			return
		}
	}
}

// carryOut copies to the channel.
func (c *conn) carryOut(ch *channel, other carried) {
	buffer := elastic{pool: &c.server.copies, memory: c.memory}
	defer buffer.release()
	for n := 0; ; {
		buf := buffer.next(n)
		var err error
		n, err = other.Read(buf)
		if n > 0 {
			if _, werr := ch.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			_ = ch.CloseWrite()
			return
		}
	}
}

// offer opens a channel to the peer for a connection that the guest accepted,
// and carries it.
func (c *conn) offer(ctx context.Context, kind string, payload []byte, other carried) {
	defer func() { _ = other.Close() }()
	if !c.enter() {
		return
	}
	defer c.leave()
	if !c.descriptors.Take(costForward) {
		return
	}
	defer c.descriptors.Give(costForward)
	// A peer that does not answer is waited for as long as it is there: there
	// can be no more of these than channels.
	open, requests, err := c.transport.OpenChannel(kind, payload)
	if err != nil {
		return
	}
	c.carry(ctx, open, requests, other)
}
