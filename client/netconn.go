package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// How long a closed connection goes on sending what was written; closeLinger if
// its end is one in order, resetLinger if it is a reset.
const closeLinger, resetLinger = 10 * time.Second, 2 * time.Second

// netConn is a connection into the guest. Two goroutines of the client's serve
// it, one for each direction; they end with the call.
type netConn struct {
	client        *Client
	call          guestdv1.NetService_ForwardClient
	cancel        context.CancelFunc
	network       string
	local, remote net.Addr

	in  netReceiver
	out netSender

	closeOnce sync.Once
	linger    *time.Timer // runs from Close on, and ends the call
	reset     atomic.Bool // Close is to reset
}

// newNetConn takes ownership of the call. It fails if the client is closed.
func (c *Client) newNetConn(
	call guestdv1.NetService_ForwardClient, cancel context.CancelFunc, network, local, remote string,
) (*netConn, error) {
	n := &netConn{
		client: c, call: call, cancel: cancel, network: network,
		local: netAddr(network, printable(local)), remote: netAddr(network, printable(remote)),
	}
	n.in.init()
	n.out.init()
	n.in.datagram = isDatagram(network)
	n.out.datagram = n.in.datagram
	n.out.pool = &c.pool
	n.linger = time.AfterFunc(closeLinger, cancel)
	n.linger.Stop()
	if !c.conns.serve(n) {
		cancel()
		return nil, net.ErrClosed
	}
	return n, nil
}

// serve moves data until the call has ended.
func (n *netConn) serve() {
	var sender sync.WaitGroup
	sender.Go(n.send)
	n.finish(n.receive())
	sender.Wait()
}

func isDatagram(network string) bool {
	return network == "udp" || network == "udp4" || network == "udp6"
}

// receive takes what the agent sends until the call ends, and returns its error:
// io.EOF for an orderly end.
func (n *netConn) receive() error {
	var message guestdv1.ForwardResponse
	in := wire.Incoming{DataField: forwardOutputField, Message: &message}
	defer in.Free()
	for {
		if err := n.call.RecvMsg(&in); err != nil {
			return err
		}
		if in.Bulk() == forwardOutputField {
			n.in.put(in.Take())
			continue
		}
		switch e := message.GetEvent().(type) {
		case *guestdv1.ForwardResponse_Data:
			n.in.put(mem.BufferSlice{mem.SliceBuffer(e.Data)})
		case *guestdv1.ForwardResponse_Eof:
			n.in.end(nil)
		default:
			return protocolError("unexpected message in a forward")
		}
	}
}

// finish ends both directions, and the call if it has not ended.
func (n *netConn) finish(err error) {
	n.cancel()
	n.linger.Stop()
	if errors.Is(err, io.EOF) {
		err = nil
	} else {
		err = n.client.netError(n.remote.String(), err)
	}
	n.end(err)
	n.out.drop()
}

// end ends both directions, writing first: whoever has read the end of the
// connection must not be able to write to it any more.
func (n *netConn) end(err error) {
	n.out.end(err)
	n.in.end(err)
}

// send sends what is written until the end. If the call fails, receive reports
// its error.
func (n *netConn) send() {
	sender := bulkSender{call: n.call, field: forwardInputField, pool: &n.client.pool}
	for {
		step, item := n.out.next()
		if step == sendData {
			size := len(*item)
			if n.sendItem(&sender, item) != nil {
				return
			}
			n.out.sent(size)
			continue
		}
		if step == sendEOF {
			if n.call.Send(&guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Eof{Eof: &guestdv1.ForwardEof{}}}) != nil {
				return
			}
			step = n.out.afterEOF()
		}
		if step == sendClose {
			end := &guestdv1.ForwardClose{Abort: n.reset.Load()}
			_ = n.call.Send(&guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Close{Close: end}})
			_ = n.call.CloseSend()
		}
		return
	}
}

// sendItem sends one item, which may be a datagram without bytes.
func (n *netConn) sendItem(sender *bulkSender, item *[]byte) error {
	if len(*item) == 0 {
		n.client.pool.Put(item)
		return n.call.SendMsg(&wire.Data{Field: forwardInputField})
	}
	return sender.send(item, len(*item))
}

// Read reads what the guest's end has sent.
func (n *netConn) Read(b []byte) (int, error) {
	count, err := n.in.read(b)
	return count, n.wrap("read", err)
}

// Write returns when b is queued for the guest's end.
func (n *netConn) Write(b []byte) (int, error) {
	count, err := n.out.write(b)
	return count, n.wrap("write", err)
}

// wrap makes an error what package net would have said; io.EOF stays.
func (n *netConn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: n.network, Source: n.local, Addr: n.remote, Err: err}
}

// CloseWrite tells the guest's end that nothing follows. On a datagram network
// that ends the connection.
func (n *netConn) CloseWrite() error { return n.wrap("close", n.out.closeWrite()) }

// Close closes the connection. It does not wait for what was written to be
// sent; that goes on for a while.
func (n *netConn) Close() error {
	err := net.ErrClosed
	n.closeOnce.Do(func() {
		err = nil
		// Before the queues are closed: from then on the call may end, and
		// finish stops the timer.
		linger := closeLinger
		if n.reset.Load() {
			linger = resetLinger
		}
		n.linger.Reset(linger)
		n.in.closeLocal()
		n.in.drop()
		n.out.closeLocal()
	})
	return n.wrap("close", err)
}

// SetLinger with 0 makes Close reset the connection, as (*net.TCPConn).SetLinger
// does. Unlike there, what was written before is still sent, for at most two
// seconds, and the reset follows it. Any other value restores the default.
func (n *netConn) SetLinger(seconds int) error {
	n.reset.Store(seconds == 0)
	return nil
}

// abort ends the connection because the client is closed.
func (n *netConn) abort() {
	n.end(net.ErrClosed)
	n.cancel()
}

// LocalAddr is the agent's end.
func (n *netConn) LocalAddr() net.Addr { return n.local }

// RemoteAddr is the guest's end.
func (n *netConn) RemoteAddr() net.Addr { return n.remote }

// SetDeadline sets both deadlines.
func (n *netConn) SetDeadline(t time.Time) error {
	return errors.Join(n.SetReadDeadline(t), n.SetWriteDeadline(t))
}

// SetReadDeadline makes reads fail from t on; zero is never.
func (n *netConn) SetReadDeadline(t time.Time) error {
	n.in.setDeadline(t)
	return nil
}

// SetWriteDeadline makes writes fail from t on; zero is never.
func (n *netConn) SetWriteDeadline(t time.Time) error {
	n.out.setDeadline(t)
	return nil
}

// netConns are the connections of a client.
type netConns struct {
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[*netConn]struct{}
}

// serve starts the goroutine that serves n. It returns false if the client is
// closed.
func (s *netConns) serve(n *netConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = make(map[*netConn]struct{})
	}
	s.open[n] = struct{}{}
	s.running.Go(func() {
		n.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, n)
	})
	return true
}

// close ends all connections and waits for the goroutines that serve them.
func (s *netConns) close() {
	s.mu.Lock()
	s.closed = true
	for n := range s.open {
		n.abort()
	}
	s.mu.Unlock()
	s.running.Wait()
}
