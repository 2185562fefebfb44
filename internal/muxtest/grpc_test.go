//go:build linux

package muxtest_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/guestd/guestd/internal/muxtest"
	"github.com/guestd/guestd/vsock"
)

// What the double is for: gRPC works through all of its faults, finds its way
// back after a reset, and a guest's server sees the host.
func TestGRPC(t *testing.T) {
	m := muxtest.Start(t, muxtest.Config{SplitReply: true, ToHostRate: 1 << 20, ToGuestRate: 1 << 20})
	l := vsock.HostOnly(m.Listen(1024), vsock.Policy{})
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	dial := m.Dialer(1024)
	cc, err := grpc.NewClient("passthrough:///guest",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	client := grpc_health_v1.NewHealthClient(cc)
	for range 3 {
		for range 10 {
			if _, err := client.Check(testContext(t), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := client.Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		m.ResetAll()
		if _, err := stream.Recv(); err == nil { // the client knows of the reset from here on
			t.Fatal("a stream outlived the reset")
		}
	}
	if n := l.Refused(); n != 0 {
		t.Errorf("%d refused", n)
	}
}
