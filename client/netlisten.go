package client

import (
	"context"
	"io/fs"
	"net"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// ListenOptions says with whose rights to listen in the guest, and who may use a
// unix socket. The zero value is useful.
type ListenOptions struct {
	// User is whose rights to use, named as for processes, and who owns a
	// socket's file; "" is the agent's own.
	User string
	// Mode is the permission bits of a socket's file; 0 is 0600.
	Mode fs.FileMode
	// Owner is who is to own a socket's file instead, "USER" or "USER:GROUP";
	// "" is User.
	Owner string
}

// Listen listens inside the guest: "tcp", "tcp4" and "tcp6" on "host:port" of
// an address that the guest has, of "localhost", or, with no host, of all; the
// listener's Addr tells the port that was chosen for 0. "unix" takes an absolute
// path or "@name"; a socket that nobody listens on any more is replaced, and the
// file is removed when the listener ends.
//
// The context bounds only this call. The listener does not outlive its connection
// to the agent: after [ErrUnavailable] listen again. Accepted connections are as
// those of [Client.DialContext], and outlive the listener.
func (c *Client) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return c.ListenWith(ctx, network, address, ListenOptions{})
}

// ListenWith is [Client.Listen] with options.
func (c *Client) ListenWith(ctx context.Context, network, address string, o ListenOptions) (net.Listener, error) {
	request := &guestdv1.ListenRequest{Network: network, User: o.User, Mode: uint32(o.Mode.Perm()), Owner: o.Owner}
	request.Address, request.RawAddress = toWire(address)
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	call, err := c.net.Listen(callCtx, request)
	var first *guestdv1.ListenResponse
	if err == nil {
		first, err = call.Recv()
		err = unexpectedEOF(err)
	}
	if err == nil && first.GetListening() == nil {
		err = protocolError("no listening at the beginning of a listener")
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, c.opError("listen", network, address, err)
	}
	return &netListener{
		client: c, call: call, ctx: callCtx, cancel: cancel, network: network,
		addr: netAddr(network, printable(first.GetListening().GetAddress())),
	}, nil
}

// netListener is a listener in the guest.
type netListener struct {
	client  *Client
	call    guestdv1.NetService_ListenClient
	ctx     context.Context //nolint:containedctx // Close ends what Accept does with it
	cancel  context.CancelFunc
	network string
	addr    net.Addr

	accepting sync.Mutex // held while receiving
	closeOnce sync.Once
}

// Accept takes the next connection up.
func (l *netListener) Accept() (net.Conn, error) {
	for {
		id, err := l.next()
		if err != nil {
			return nil, l.failed(err)
		}
		conn, err := l.client.forward(l.ctx, l.network, &guestdv1.ForwardRequest{
			Request: &guestdv1.ForwardRequest_Accept{Accept: &guestdv1.ForwardAccept{ConnectionId: id}},
		})
		if err == nil {
			return conn, nil
		}
		if status.Code(err) != codes.NotFound {
			return nil, l.failed(err)
		}
		// The agent gave this connection up: nobody accepted it in time.
	}
}

// next receives an announcement. Errors are gRPC's own.
func (l *netListener) next() (id string, err error) {
	l.accepting.Lock()
	defer l.accepting.Unlock()
	response, err := l.call.Recv()
	if err = unexpectedEOF(err); err == nil && response.GetConnection().GetId() == "" {
		err = protocolError("unexpected message of a listener")
	}
	return response.GetConnection().GetId(), err
}

// failed is the error of Accept.
func (l *netListener) failed(err error) error {
	err = l.client.netError(l.addr.String(), err)
	if l.ctx.Err() != nil {
		err = net.ErrClosed
	}
	return &net.OpError{Op: "accept", Net: l.network, Addr: l.addr, Err: err}
}

// Close stops listening.
func (l *netListener) Close() error {
	err := error(&net.OpError{Op: "close", Net: l.network, Addr: l.addr, Err: net.ErrClosed})
	l.closeOnce.Do(func() {
		l.cancel()
		err = nil
	})
	return err
}

// Addr is where the guest listens.
func (l *netListener) Addr() net.Addr { return l.addr }
