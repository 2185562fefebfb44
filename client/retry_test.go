package client

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// waitsForEver answers GetInfo only with the end of the call.
type waitsForEver struct {
	guestdv1.UnimplementedSystemServiceServer
	entered chan struct{}
}

func (w waitsForEver) GetInfo(ctx context.Context, _ *guestdv1.GetInfoRequest) (*guestdv1.GetInfoResponse, error) {
	w.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A call is made again when its connection broke under it, whatever gRPC said of
// the state before it: it tells of a new one a moment late.
func TestRetryGoesByTheCallsConnection(t *testing.T) {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	service := waitsForEver{entered: make(chan struct{})}
	guestdv1.RegisterSystemServiceServer(server, service)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conns := make(chan net.Conn, 10)
	connect := func() *Client {
		c, err := New(func(ctx context.Context) (net.Conn, error) {
			conn, err := listener.DialContext(ctx)
			conns <- conn
			return conn, err
		}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	// What one client knows before the call is nothing, as it is made on the
	// other's connection.
	c, other := connect(), connect()
	go func() {
		<-service.entered
		_ = (<-conns).Close()
	}()
	calls := 0
	_, err := retry(t.Context(), c, func(o ...grpc.CallOption) (*guestdv1.GetInfoResponse, error) {
		if calls++; calls > 1 {
			return nil, nil
		}
		return other.system.GetInfo(t.Context(), &guestdv1.GetInfoRequest{}, o...)
	})
	if calls != 2 || err != nil {
		t.Errorf("%d calls, %v", calls, err)
	}

	calls = 0
	offline := offline(t)
	_, err = retry(t.Context(), offline, func(o ...grpc.CallOption) (*guestdv1.GetInfoResponse, error) {
		calls++
		return offline.system.GetInfo(t.Context(), &guestdv1.GetInfoRequest{}, o...)
	})
	if calls != 1 || status.Code(err) != codes.Unavailable {
		t.Errorf("nobody there: %d calls, %v", calls, err)
	}
}
