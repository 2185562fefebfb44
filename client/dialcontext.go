package client

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Field numbers of the messages of Forward that carry bytes.
const (
	forwardInputField  protowire.Number = 3 // ForwardRequest.data
	forwardOutputField protowire.Number = 2 // ForwardResponse.data
)

// DialContext connects to address from inside the guest: "tcp", "tcp4", "tcp6",
// "udp", "udp4" and "udp6" take "host:port" with a numeric port, and resolve
// names there; "localhost" is both of the guest's loopback addresses. "unix"
// takes an absolute path in the guest, or "@name". So it serves an
// [net/http.Transport] as its DialContext.
//
// The context bounds only the dialing, not the connection after that. The
// connection has the methods CloseWrite and SetLinger, as *net.TCPConn has; a
// Write to a datagram network is one datagram. What was written before Close is
// still delivered, for ten seconds at most. A reset and an orderly end differ in both
// directions.
//
// Errors are *[net.OpError], also those of the connection. They wrap the
// guest's errno, for example syscall.ECONNREFUSED, a *[net.DNSError], or what
// any other call of the package says.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return c.DialAs(ctx, "", network, address)
}

// DialAs is [Client.DialContext] with the rights of a user of the guest, named
// as for processes; "" is the agent's own. It matters for unix sockets, whose
// other end sees that user.
func (c *Client) DialAs(ctx context.Context, user, network, address string) (net.Conn, error) {
	dial := &guestdv1.ForwardDial{Network: network, User: user}
	dial.Address, dial.RawAddress = toWire(address)
	first := &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Dial{Dial: dial}}
	conn, err := retry(ctx, c, func(o ...grpc.CallOption) (*netConn, error) {
		return c.forward(ctx, network, first, o...)
	})
	if err != nil {
		return nil, c.opError("dial", network, address, err)
	}
	return conn, nil
}

// forward opens a Forward call and takes its answer. Errors are gRPC's own.
func (c *Client) forward(
	ctx context.Context, network string, first *guestdv1.ForwardRequest, options ...grpc.CallOption,
) (*netConn, error) {
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	call, err := c.net.Forward(callCtx, options...)
	var message guestdv1.ForwardResponse
	if err == nil {
		// A failed Send is io.EOF; the reason comes with RecvMsg.
		_ = call.Send(first)
		in := wire.Incoming{DataField: forwardOutputField, Message: &message}
		if err = unexpectedEOF(call.RecvMsg(&in)); err == nil && (in.Bulk() != 0 || message.GetConnected() == nil) {
			err = protocolError("no connected at the beginning of a forward")
		}
		in.Free()
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err() // it ended the call, whatever that says
	}
	if err != nil {
		cancel()
		return nil, err
	}
	connected := message.GetConnected()
	return c.newNetConn(call, cancel, network, connected.GetLocalAddress(), connected.GetRemoteAddress())
}

// opError makes an error of the guest's network what package net would have
// said. Nil passes through.
func (c *Client) opError(op, network, address string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: network, Addr: netAddr(network, address), Err: c.netError(address, err)}
}

// netError is what stands behind the colon of such an error.
func (c *Client) netError(address string, err error) error {
	err = c.mapError("", "", err)
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Reason == guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_HOST {
		host, _, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			host = address
		}
		return &net.DNSError{UnwrapErr: e, Err: "no such host", Name: host, IsNotFound: true}
	}
	if e.Errno != 0 {
		// The agent's sentence repeats the address.
		short := *e
		short.Message = ""
		return &short
	}
	return e
}

// guestAddr is an address that package net has no type for, such as one with a
// name.
type guestAddr struct{ network, text string }

func (a guestAddr) Network() string { return a.network }
func (a guestAddr) String() string  { return a.text }

// netAddr is an address of the guest's in the type that package net has for it.
func netAddr(network, text string) net.Addr {
	switch network {
	case "tcp", "tcp4", "tcp6":
		if a, err := netip.ParseAddrPort(text); err == nil {
			return net.TCPAddrFromAddrPort(a)
		}
	case "udp", "udp4", "udp6":
		if a, err := netip.ParseAddrPort(text); err == nil {
			return net.UDPAddrFromAddrPort(a)
		}
	case "unix":
		return &net.UnixAddr{Name: text, Net: network}
	}
	return guestAddr{network, text}
}
