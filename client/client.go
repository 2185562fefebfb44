package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// maxMessage bounds one message from the guest, which may be hostile.
const maxMessage = 16 << 20

// Config changes how a [Client] connects. The zero value is useful.
type Config struct {
	// Name is what errors call the agent, usually its address, for example
	// "vsock:3:1024". Default: "guest".
	Name string

	// ConnectTimeout bounds one attempt to connect, the HTTP/2 handshake
	// included. Default: 10 s.
	ConnectTimeout time.Duration

	// ReattachTimeout is how long a call that can be resumed (an attached or
	// running command, a wait, a file transfer) tries to get its connection
	// back before it fails. Default: 30 s. Negative: it does not try.
	ReattachTimeout time.Duration

	// DialOptions are further options for the gRPC connection, for example
	// interceptors or a stats handler.
	DialOptions []grpc.DialOption
}

// Client talks to one agent. It connects on the first call. When a connection is
// lost, later calls make a new one; what belonged to the lost one (open files,
// watches, listeners) has to be opened again. It is safe for concurrent use.
type Client struct {
	conn            *grpc.ClientConn
	dial            *dialer
	reattachTimeout time.Duration
	pool            wire.Pool

	process guestdv1.ProcessServiceClient
	file    guestdv1.FileServiceClient
	system  guestdv1.SystemServiceClient
	access  guestdv1.AccessServiceClient
	net     guestdv1.NetServiceClient

	conns netConns

	closeOnce sync.Once
	closeErr  error
	closed    chan struct{}
}

// New returns a client of the agent that dial connects to. It does not connect
// yet: [Client.Ready] waits for an agent that is still booting.
//
// The dial function is called for each connection, one call at a time, with a
// context that ends after Config.ConnectTimeout. The client closes the
// connections it returns.
//
// The connection carries no TLS: it does not leave the host, and who may talk
// to an agent is decided by the transport (the vsock CID, the mode of a socket
// file), which a certificate inside the guest could not make any safer.
func New(dial func(ctx context.Context) (net.Conn, error), config Config) (*Client, error) {
	if dial == nil {
		return nil, errors.New("client: no dial function")
	}
	if config.Name == "" {
		config.Name = "guest"
	}
	if config.ConnectTimeout <= 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	if config.ReattachTimeout == 0 {
		config.ReattachTimeout = 30 * time.Second
	}
	c := &Client{
		dial:            &dialer{name: config.Name, dial: dial},
		reattachTimeout: config.ReattachTimeout,
		closed:          make(chan struct{}),
	}
	conn, err := grpc.NewClient("passthrough:///guestd", append(c.grpcOptions(config), config.DialOptions...)...)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	c.process = guestdv1.NewProcessServiceClient(conn)
	c.file = guestdv1.NewFileServiceClient(conn)
	c.system = guestdv1.NewSystemServiceClient(conn)
	c.access = guestdv1.NewAccessServiceClient(conn)
	c.net = guestdv1.NewNetServiceClient(conn)
	return c, nil
}

func (c *Client) grpcOptions(config Config) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(c.dial.connect),
		grpc.WithNoProxy(),
		grpc.WithAuthority("guestd"),
		grpc.WithUserAgent("guestd-client"),
		grpc.WithDisableServiceConfig(),
		// An idle connection stays: the agent closes a connection's file
		// handles with it.
		grpc.WithIdleTimeout(0),
		// An agent that restarts or a machine that boots is back within
		// fractions of a second, on a socket where an attempt costs nothing.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  10 * time.Millisecond,
				Multiplier: 1.5,
				Jitter:     0.2,
				MaxDelay:   500 * time.Millisecond,
			},
			MinConnectTimeout: config.ConnectTimeout,
		}),
		// Output that is in flight when the connection breaks is sent again
		// from the agent's ring, which by default keeps 1 MiB. The window is
		// static, as one that grows could exceed the ring.
		grpc.WithStaticStreamWindowSize(wire.StreamWindow),
		grpc.WithStaticConnWindowSize(wire.ConnWindow),
		grpc.WithReadBufferSize(wire.ReadBuffer),
		grpc.WithWriteBufferSize(wire.WriteBuffer),
		experimental.WithBufferPool(&c.pool), // gRPC's own clears every buffer
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(wire.NewCodec()),
			grpc.MaxCallRecvMsgSize(maxMessage),
		),
	}
}

// Close closes the connection and ends every call on it, and every connection
// into the guest, with an error that is [net.ErrClosed]. Processes in the guest
// keep running, except those started to be killed with their connection.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.closeErr = c.conn.Close()
		c.conns.close()
	})
	return c.closeErr
}

// Conn returns the gRPC connection, for stubs of guestd.v1 and for services that
// this package does not wrap. It belongs to the client: do not close it.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Name returns Config.Name.
func (c *Client) Name() string { return c.dial.name }

// Ready returns when the agent answers a call. Until then it keeps trying to
// connect, so give ctx a deadline; the error then says why the last attempt
// failed.
func (c *Client) Ready(ctx context.Context) error {
	c.conn.ResetConnectBackoff()
	for attempt := 0; ; attempt++ {
		_, err := c.system.GetInfo(ctx, &guestdv1.GetInfoRequest{}, grpc.WaitForReady(true))
		// An agent that has just begun may accept and die.
		if !isConnectionLost(err) || !pause(ctx, attempt+1) {
			return c.mapError("wait for the agent", "", err)
		}
	}
}

// Info describes the agent, its machine and what both can do.
func (c *Client) Info(ctx context.Context) (*guestdv1.GetInfoResponse, error) {
	info, err := c.system.GetInfo(ctx, &guestdv1.GetInfoRequest{})
	return info, c.mapError("get info", "", err)
}

// Metrics returns the agent's counters and gauges.
func (c *Client) Metrics(ctx context.Context) (*guestdv1.GetMetricsResponse, error) {
	metrics, err := c.system.GetMetrics(ctx, &guestdv1.GetMetricsRequest{})
	return metrics, c.mapError("get metrics", "", err)
}
