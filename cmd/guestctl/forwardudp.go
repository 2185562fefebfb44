package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// udpIdle is how long a sender is remembered that says and gets nothing.
	udpIdle = time.Minute
	// maxFlows bounds the senders of one forward; datagrams of more are lost.
	maxFlows = 1024
	// maxFlowQueue is how many datagrams of one sender wait; more are lost.
	maxFlowQueue = 64
	// maxUDP is more than any datagram has.
	maxUDP = 1 << 16
)

// udpForward is one UDP port. Each sender gets a socket of its own in the guest,
// so that answers find their way back.
type udpForward struct {
	*forwarding
	spec  *forwardSpec
	conn  *net.UDPConn
	flows map[netip.AddrPort]*udpFlow // of the goroutine that reads
	ended chan *udpFlow               // flows that have ended, for that goroutine
	done  chan struct{}               // closed when it has ended
}

// udpFlow is one sender.
type udpFlow struct {
	from  netip.AddrPort
	queue chan []byte
}

func (fw *forwarding) startUDP(ctx context.Context, spec *forwardSpec) error {
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, "udp", spec.listen.address)
	if err != nil {
		return err
	}
	conn, ok := packets.(*net.UDPConn)
	if !ok || !fw.keep(conn) {
		return errors.Join(context.Canceled, packets.Close())
	}
	if err := fw.announce(spec, conn.LocalAddr()); err != nil {
		return err
	}
	u := &udpForward{
		forwarding: fw, spec: spec, conn: conn, flows: make(map[netip.AddrPort]*udpFlow),
		ended: make(chan *udpFlow), done: make(chan struct{}),
	}
	fw.tasks.Go(func() { u.serve(ctx) })
	return nil
}

// serve passes datagrams on, until the socket is closed.
func (u *udpForward) serve(ctx context.Context) {
	defer u.drop(u.conn)
	defer close(u.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := make([]byte, maxUDP)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(b)
		u.forget()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Said of an answer whose receiver has gone.
			continue
		}
		flow := u.flows[from]
		if flow == nil {
			if len(u.flows) >= maxFlows {
				continue
			}
			flow = &udpFlow{from: from, queue: make(chan []byte, maxFlowQueue)}
			u.flows[from] = flow
			u.tasks.Go(func() { u.run(ctx, flow) })
		}
		select {
		case flow.queue <- append([]byte(nil), b[:n]...):
		default: // as ever with UDP
		}
	}
}

// forget takes flows out that have ended.
func (u *udpForward) forget() {
	for {
		select {
		case flow := <-u.ended:
			if u.flows[flow.from] == flow {
				delete(u.flows, flow.from)
			}
		default:
			return
		}
	}
}

// run carries one sender's datagrams until nothing has passed for a while.
func (u *udpForward) run(ctx context.Context, flow *udpFlow) {
	defer func() {
		select {
		case u.ended <- flow:
		case <-u.done:
		}
	}()
	conn, err := u.dial(ctx, u.spec)
	if err != nil {
		if ctx.Err() == nil {
			u.complain(fmt.Errorf("forward %s: %w", u.spec.text, err))
		}
		return
	}
	if !u.keep(conn) {
		return
	}
	defer u.drop(conn)
	answered := make(chan struct{})
	gone := make(chan struct{})
	u.tasks.Go(func() {
		defer close(gone)
		u.answer(conn, flow, answered)
	})
	idle := time.NewTimer(udpIdle)
	defer idle.Stop()
	for {
		select {
		case data := <-flow.queue:
			if _, err := conn.Write(data); err != nil {
				_ = conn.Close()
			}
		case <-answered:
		case <-idle.C:
			_ = conn.Close()
			<-gone
			return
		case <-gone:
			_ = conn.Close()
			return
		}
		idle.Reset(udpIdle)
	}
}

// answer passes the guest's datagrams back, until conn is closed.
func (u *udpForward) answer(conn net.Conn, flow *udpFlow, answered chan<- struct{}) {
	b := make([]byte, maxUDP)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		_, _ = u.conn.WriteToUDPAddrPort(b[:n], flow.from)
		select {
		case answered <- struct{}{}:
		default:
		}
	}
}
