//go:build linux

package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func (a *netAgent) listen(t *testing.T, req *guestdv1.ListenRequest) (guestdv1.NetService_ListenClient, string, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	t.Cleanup(cancel)
	stream, err := a.Listen(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return stream, resp.GetListening().GetAddress(), cancel
}

func acceptRequest(t *testing.T, stream guestdv1.NetService_ListenClient) *guestdv1.ForwardRequest {
	t.Helper()
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Accept{Accept: &guestdv1.ForwardAccept{ConnectionId: resp.GetConnection().GetId()}}}
}

func TestListen(t *testing.T) {
	a := serveNet(t)
	for network, address := range map[string]string{"tcp": "localhost:0", "unix": filepath.Join(sharedDir(t), "s"), "unix ": "@guestd-test-" + strconv.Itoa(os.Getpid())} {
		network = strings.TrimSpace(network)
		stream, bound, cancel := a.listen(t, &guestdv1.ListenRequest{Network: network, Address: address})
		dial := func() net.Conn {
			conn, err := net.Dial(network, bound)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		conn := dial()
		f := a.mustOpen(t, acceptRequest(t, stream))
		unclaimed := dial()
		request := acceptRequest(t, stream)
		cancel()
		// What is taken up outlives the listener; what waits does not.
		if _, err := unclaimed.Read(make([]byte, 1)); err == nil {
			t.Error("what waited is still there")
		}
		if _, err := a.open(t, request); status.Code(err) != codes.NotFound {
			t.Errorf("taken up after the end: %v", err)
		}
		eventually(t, "the listener is gone", func() bool {
			late, err := net.Dial(network, bound)
			if err == nil {
				late.Close()
			}
			return err != nil
		}, nil)
		f.send(t, dataRequest([]byte("hello")), forwardEOF())
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
		conn.Close()
		if _, eof, err := f.rest(); !eof || !errors.Is(err, io.EOF) {
			t.Errorf("%s: eof %v, %v", network, eof, err)
		}
	}
}

// More than may wait at once are not lost.
func TestListenMany(t *testing.T) {
	a := serveNet(t)
	stream, bound, _ := a.listen(t, &guestdv1.ListenRequest{Network: "tcp", Address: "127.0.0.1:0"})
	const n = maxWaiting + 50
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", bound)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	for range conns {
		f := a.mustOpen(t, acceptRequest(t, stream))
		f.send(t, dataRequest([]byte("x")), forwardClose())
	}
	for _, conn := range conns {
		if got, err := io.ReadAll(conn); err != nil || string(got) != "x" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestListenErrors(t *testing.T) {
	a := serveNet(t)
	taken := listenLocal(t, "tcp").Addr().String()
	for name, c := range map[string]struct {
		req    *guestdv1.ListenRequest
		code   codes.Code
		reason guestdv1.ErrorReason
	}{
		"taken":   {&guestdv1.ListenRequest{Network: "tcp", Address: taken}, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM},
		"udp":     {&guestdv1.ListenRequest{Network: "udp", Address: "127.0.0.1:0"}, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		"mode":    {&guestdv1.ListenRequest{Network: "unix", Address: "/x", Mode: 0o4600}, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST},
		"no user": {&guestdv1.ListenRequest{Network: "unix", Address: "/x", User: "nobody-at-all"}, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER},
		"owner":   {&guestdv1.ListenRequest{Network: "unix", Address: "/x", Owner: "nobody-at-all"}, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER},
		"no dir":  {&guestdv1.ListenRequest{Network: "unix", Address: "/nowhere/at/all"}, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND},
	} {
		stream, err := a.Listen(testContext(t), c.req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		t.Run(name, func(t *testing.T) { wantFailure(t, err, c.code, c.reason) })
	}
}

// flakyListener fails before it accepts.
type flakyListener struct {
	net.Listener
	errs []error
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// What is short in the guest for a moment ends no listener.
func TestListenOutlivesShortage(t *testing.T) {
	l := listenLocal(t, "tcp")
	flaky := &flakyListener{l, []error{
		&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.ENOSPC)},
		&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)},
	}}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := newWaitingQueue(new(waitingConns))
	accepted, err := q.accept(testContext(t), flaky)
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	flaky.errs = []error{&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EINVAL)}}
	if _, err := q.accept(testContext(t), flaky); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %v", err)
	}
}
