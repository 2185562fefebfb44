//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestHealthAndReflection(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	health := healthv1.NewHealthClient(a.conn)
	services := []string{"guestd.v1.ProcessService", "guestd.v1.FileService", "guestd.v1.SystemService", "guestd.v1.AccessService", "guestd.v1.NetService"}
	for _, name := range append(services, "") {
		got, err := health.Check(ctx, &healthv1.HealthCheckRequest{Service: name})
		if err != nil || got.Status != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", name, got, err)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(a.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		if !strings.Contains(got.String(), name) {
			t.Errorf("reflection does not know %s: %v", name, got)
		}
	}
}

func TestAllow(t *testing.T) {
	a := serve(t, Config{Allow: []string{"guestd.v1.FileService/Stat", "/guestd.v1.ProcessService/"}})
	ctx := testContext(t)
	files := guestdv1.NewFileServiceClient(a.conn)
	if _, err := files.Stat(ctx, &guestdv1.StatRequest{Path: "/"}); err != nil {
		t.Error(err)
	}
	if _, err := a.List(ctx, &guestdv1.ListRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := healthv1.NewHealthClient(a.conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	denied := guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	_, err := a.system.GetMetrics(ctx, &guestdv1.GetMetricsRequest{})
	wantFailure(t, err, codes.PermissionDenied, denied)
	stream, err := files.Read(ctx, &guestdv1.ReadRequest{Path: "/etc/passwd"})
	if err == nil {
		_, err = stream.Recv()
	}
	wantFailure(t, err, codes.PermissionDenied, denied)

	for _, wrong := range []string{"guestd.v1.Nothing", "guestd.v1.FileService/Nothing", ""} {
		if _, err := New(Config{Allow: []string{wrong}}); err == nil {
			t.Errorf("allowing %q succeeded", wrong)
		}
	}
}

// panicService panics in the handler, or in a goroutine that the handler
// awaits, as the API's own goroutines are.
func panicService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Panic",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Handler", ServerStreams: true, Handler: func(any, grpc.ServerStream) error {
				panic("in the handler")
			}},
			{StreamName: "Goroutine", ServerStreams: true, Handler: func(any, grpc.ServerStream) error {
				result := make(chan error)
				go func() { result <- panicking() }()
				return <-result
			}},
		},
	}
}

func panicking() (err error) {
	defer recoverTo(&err)
	var list []int
	return fmt.Errorf("impossible: %d", list[len(list)])
}

func TestPanic(t *testing.T) {
	var log bytes.Buffer
	a := serve(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(s *Server) {
		s.grpc.RegisterService(panicService(), nil)
	})
	ctx := testContext(t)
	for _, method := range []string{"Handler", "Goroutine"} {
		stream, err := a.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/test.Panic/"+method)
		if err != nil {
			t.Fatal(err)
		}
		wantFailure(t, stream.RecvMsg(new(guestdv1.GetInfoResponse)), codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM)
	}
	if _, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{}); err != nil {
		t.Errorf("the agent is gone: %v", err)
	}
	if err := a.server.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"in the handler", "panicking", "index out of range", "/test.Panic/Goroutine"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q", want)
		}
	}
}

// TestConnectionHooks: what belongs to a connection ends with it.
func TestConnectionHooks(t *testing.T) {
	hooks := make(chan string, 10)
	late := make(chan bool, 1)
	var seen *connection
	desc := &grpc.ServiceDesc{ServiceName: "test.Hook", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Hook", ServerStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
			c := connectionOf(ss.Context())
			seen = c
			c.onClose(func() { panic("in the hook") })
			c.onClose(func() { hooks <- "closed" })
			if err := ss.SendMsg(&guestdv1.GetInfoResponse{}); err != nil {
				return err
			}
			<-ss.Context().Done()
			return nil
		},
	}}}
	a := serve(t, Config{}, func(s *Server) { s.grpc.RegisterService(desc, nil) })
	conn := a.dial(t)
	stream, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true}, "/test.Hook/Hook")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(guestdv1.GetInfoResponse)); err != nil {
		t.Fatal(err)
	}
	if n := a.server.conns.count(); n != 1 {
		t.Errorf("%d connections", n)
	}
	select {
	case got := <-hooks:
		t.Errorf("%s while it is open", got)
	default:
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-hooks:
	case <-time.After(patience):
		t.Fatal("the hook was not called")
	}
	late <- seen.onClose(func() { hooks <- "late" })
	if <-late {
		t.Error("onClose after the end says that it will call")
	}
	if connectionOf(context.Background()) != nil {
		t.Error("a context without a call has a connection")
	}
}

// TestHooksAreAwaited: gRPC may be through with a connection that one of its
// goroutines is still closing. The server's end waits for the hooks all the same.
func TestHooksAreAwaited(t *testing.T) {
	cs := &connections{log: slog.New(slog.DiscardHandler), keepAlive: keepAlive{time.Hour, time.Hour}}
	near, far := net.Pipe()
	defer far.Close()
	c, _ := cs.accept(near)
	var called atomic.Bool
	c.onClose(func() { called.Store(true) })
	cs.mu.Lock() // so that what closes the connection waits in the middle
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = c.Close()
	}()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer reads %v", err)
	}
	awaited := make(chan bool)
	go func() {
		cs.running.Wait()
		awaited <- called.Load()
	}()
	select {
	case <-awaited:
		t.Error("the end did not wait for the closing")
		cs.mu.Unlock()
	case <-time.After(100 * time.Millisecond): // given a moment to go wrong
		cs.mu.Unlock()
		if !<-awaited {
			t.Error("the end did not wait for the hook")
		}
	}
	<-closed
}

// TestSilentConnections: peers that say nothing, or half of a handshake, hold
// up neither calls nor the end.
func TestSilentConnections(t *testing.T) {
	a := serve(t, Config{})
	for _, greeting := range []string{"", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n"} {
		conn, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, greeting); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are accepted", func() bool { return a.server.conns.lastID.Load() >= 5 })
	if _, err := a.system.GetInfo(testContext(t), &guestdv1.GetInfoRequest{}); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if err := a.server.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > handshakeTimeout/2 {
		t.Errorf("Close took %v", took)
	}
	if n := a.server.conns.count(); n != 0 {
		t.Errorf("%d connections after Close", n)
	}
}

func TestShutdown(t *testing.T) {
	a := serve(t, Config{})
	ctx := testContext(t)
	if _, err := a.system.GetInfo(ctx, &guestdv1.GetInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := a.server.Shutdown(ctx); err != nil {
		t.Errorf("with nobody there: %v", err)
	}
	if err := <-a.served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("serve: %v", err)
	}
	a.served <- ErrServerClosed // for the clean-up
	l, err := net.Listen("unix", a.socket+"2")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.server.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("serve afterwards: %v", err)
	}
	if err := a.server.Shutdown(ctx); err != nil {
		t.Errorf("twice: %v", err)
	}
}

// TestShutdownGrace: an attached stream goes on during the grace, and then is
// told why it ends. The process is not touched.
func TestShutdownGrace(t *testing.T) {
	table, err := proc.NewTable(proc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	a := serve(t, Config{Processes: table})
	health, err := healthv1.NewHealthClient(a.conn).Watch(testContext(t), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := health.Recv(); err != nil {
		t.Fatal(err)
	}
	x := a.exec(t, startRequest(&guestdv1.ProcessSpec{Args: []string{"cat"}, Stdin: true}))
	p := x.untilStarted(t)

	grace, over := context.WithCancel(context.Background())
	defer over()
	ended := make(chan error)
	go func() { ended <- a.server.Shutdown(grace) }()
	if got, err := health.Recv(); err != nil || got.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v, %v", got, err)
	}
	x.send(t, stdinRequest([]byte("still here\n")))
	x.untilOutput(t, "still here")
	select {
	case err := <-ended:
		t.Fatalf("ended during the grace: %v", err)
	default:
	}
	over()
	wantFailure(t, x.finish(), codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if got, err := table.Get(p.Id); err != nil || got.Info().Exit != nil {
		t.Errorf("the process: %v, %v", got, err)
	}
}

// TestCloseKills: a process that must not outlive its stream does not outlive
// the agent, whatever its grace.
func TestCloseKills(t *testing.T) {
	table, err := proc.NewTable(proc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	a := serve(t, Config{Processes: table})
	first := startRequest(script(`trap "" HUP; echo ready; while :; do sleep 0.05; done`))
	first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	x := a.exec(t, first)
	x.untilOutput(t, "ready")
	if err := a.server.Close(); err != nil {
		t.Error(err)
	}
	a.stopped(t)
	if code := status.Code(x.finish()); code != codes.Unavailable {
		t.Errorf("the stream ended with %v", code)
	}
}

// TestTooLarge: a message over the limit ends its call with a clear error.
func TestTooLarge(t *testing.T) {
	a := serve(t, Config{})
	_, err := a.WriteInput(testContext(t), &guestdv1.WriteInputRequest{Process: "x", Data: make([]byte, maxMessage)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	if wire.MaxData >= maxMessage {
		t.Error("a permitted message is over the limit")
	}
}
