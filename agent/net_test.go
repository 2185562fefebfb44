//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// netAgent is an agent with a stock client of NetService.
type netAgent struct {
	guestdv1.NetServiceClient
	*testAgent
}

func serveNet(t *testing.T) *netAgent {
	t.Helper()
	a := serve(t, Config{})
	return &netAgent{guestdv1.NewNetServiceClient(a.conn), a}
}

// forwardStream is a Forward call after its connected.
type forwardStream struct {
	guestdv1.NetService_ForwardClient
	cancel context.CancelFunc
	remote string
}

func dialRequest(network, address string) *guestdv1.ForwardRequest {
	return &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Dial{Dial: &guestdv1.ForwardDial{Network: network, Address: address}}}
}

func dataRequest(data []byte) *guestdv1.ForwardRequest {
	return &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Data{Data: data}}
}

func forwardEOF() *guestdv1.ForwardRequest {
	return &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Eof{Eof: &guestdv1.ForwardEof{}}}
}

func forwardClose() *guestdv1.ForwardRequest {
	return &guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Close{Close: &guestdv1.ForwardClose{}}}
}

// open begins a Forward call. The error is the call's.
func (a *netAgent) open(t *testing.T, first *guestdv1.ForwardRequest) (*forwardStream, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	t.Cleanup(cancel)
	stream, err := a.Forward(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(first); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if resp.GetConnected() == nil {
		t.Fatalf("first response: %v", resp)
	}
	return &forwardStream{stream, cancel, resp.GetConnected().RemoteAddress}, nil
}

// mustOpen is open for what must not fail.
func (a *netAgent) mustOpen(t *testing.T, first *guestdv1.ForwardRequest) *forwardStream {
	t.Helper()
	f, err := a.open(t, first)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *forwardStream) send(t *testing.T, requests ...*guestdv1.ForwardRequest) {
	t.Helper()
	for _, r := range requests {
		if err := f.Send(r); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// rest receives to the end: what came, whether eof did, and how it ended.
func (f *forwardStream) rest() (data []byte, eof bool, err error) {
	for {
		resp, err := f.Recv()
		if err != nil {
			return data, eof, err
		}
		data = append(data, resp.GetData()...)
		eof = eof || resp.GetEof() != nil
	}
}

// listenLocal listens where the agent can reach it.
func listenLocal(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(sharedDir(t), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// take connects through the agent to l.
func (a *netAgent) take(t *testing.T, l net.Listener) (*forwardStream, net.Conn) {
	t.Helper()
	f := a.mustOpen(t, dialRequest(l.Addr().Network(), l.Addr().String()))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return f, conn
}

func closeWrite(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func TestForwardHalfClose(t *testing.T) {
	a := serveNet(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	for _, network := range []string{"tcp", "unix"} {
		l := listenLocal(t, network)
		f, conn := a.take(t, l)
		// The client is at its end first; the answer still comes.
		go func() {
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, big) {
				t.Errorf("%s: the guest's end read %d bytes, %v", network, len(got), err)
			}
			_, _ = conn.Write(big)
			conn.Close()
		}()
		for rest := big; len(rest) > 0; {
			n := min(len(rest), 1<<20)
			f.send(t, dataRequest(rest[:n]))
			rest = rest[n:]
		}
		f.send(t, forwardEOF())
		if got, eof, err := f.rest(); !bytes.Equal(got, big) || !eof || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, eof %v, %v", network, len(got), eof, err)
		}

		// The guest's end is at its end first; it still reads.
		f, second := a.take(t, l)
		if _, err := io.WriteString(second, "first"); err != nil {
			t.Fatal(err)
		}
		closeWrite(t, second)
		for eof := false; !eof; {
			resp, err := f.Recv()
			if err != nil {
				t.Fatal(err)
			}
			eof = resp.GetEof() != nil
		}
		f.send(t, dataRequest([]byte("second")), forwardEOF())
		if got, err := io.ReadAll(second); err != nil || string(got) != "second" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
		if _, _, err := f.rest(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// The ends that are none in order are errors on the other side.
func TestForwardReset(t *testing.T) {
	a := serveNet(t)
	l := listenLocal(t, "tcp")

	f, conn := a.take(t, l)
	if _, err := io.WriteString(conn, "last words"); err != nil {
		t.Fatal(err)
	}
	// A reset discards what has not been read.
	for got := ""; got != "last words"; {
		resp, err := f.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += string(resp.GetData())
	}
	reset(conn)
	_, eof, err := f.rest()
	if eof {
		t.Error("a reset is told as an end")
	}
	wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, "errno", "ECONNRESET")

	f, conn = a.take(t, l)
	f.cancel()
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a cancelled call the guest's end reads %v", err)
	}

	// Close is an end in order, also while the guest's end sends.
	f, conn = a.take(t, l)
	f.send(t, dataRequest([]byte("all of it")), forwardClose())
	if got, err := io.ReadAll(conn); err != nil || string(got) != "all of it" {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := f.rest(); !errors.Is(err, io.EOF) {
		t.Errorf("after close: %v", err)
	}

	// With abort it is a reset, which comes behind the data.
	f, conn = a.take(t, l)
	f.send(t, dataRequest([]byte("all of it")),
		&guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Close{Close: &guestdv1.ForwardClose{Abort: true}}})
	if got, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) || string(got) != "all of it" {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := f.rest(); !errors.Is(err, io.EOF) {
		t.Errorf("after an abort: %v", err)
	}

	// The guest's end takes nothing more, but sends on.
	unix := listenLocal(t, "unix")
	f, conn = a.take(t, unix)
	if err := conn.(*net.UnixConn).CloseRead(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		f.send(t, dataRequest(make([]byte, 1<<20)))
	}
	f.send(t, forwardEOF())
	if _, err := io.WriteString(conn, "still here"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	got, _, err := f.rest()
	if string(got) != "still here" {
		t.Errorf("%q came", got)
	}
	wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, "errno", "EPIPE")
}

// A reset that a write has met is one to who reads after that, though the kernel
// tells of it once; an end in order stays one, whatever was written after it.
func TestForwardResetMetByAWrite(t *testing.T) {
	l := listenLocal(t, "tcp")
	for _, test := range []struct {
		linger int
		met    error // by the write
		read   error
	}{
		{0, syscall.ECONNRESET, syscall.ECONNRESET},
		{-1, syscall.EPIPE, io.EOF},
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(far.(*net.TCPConn).SetLinger(test.linger), far.Close()); err != nil {
			t.Fatal(err)
		}
		f := &forward{service: &netService{pool: new(wire.Pool)}, conn: conn}
		for f.inputErr == nil {
			if err := f.write([][]byte{{'x'}}, 1); err != nil {
				t.Fatal(err)
			}
		}
		if !errors.Is(f.inputErr, test.met) {
			t.Fatalf("the write met %v, not %v", f.inputErr, test.met)
		}
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.read(raw); !errors.Is(err, test.read) {
			t.Errorf("after %v it reads %v, not %v", test.met, err, test.read)
		}
	}
}

func TestForwardUDP(t *testing.T) {
	a := serveNet(t)
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	f := a.mustOpen(t, dialRequest("udp", server.LocalAddr().String()))
	b := make([]byte, maxDatagram+1)
	for _, size := range []int{1, 0, 1400, maxDatagram} {
		f.send(t, dataRequest(make([]byte, size)))
		n, peer, err := server.ReadFrom(b)
		if err != nil || n != size {
			t.Fatalf("%d bytes of %d, %v", n, size, err)
		}
		if _, err := server.WriteTo(b[:n], peer); err != nil {
			t.Fatal(err)
		}
		resp, err := f.Recv()
		if data, ok := resp.GetEvent().(*guestdv1.ForwardResponse_Data); err != nil || !ok || len(data.Data) != size {
			t.Fatalf("%T of %d bytes, %v", resp.GetEvent(), size, err)
		}
	}
	f.send(t, forwardEOF())
	if _, _, err := f.rest(); !errors.Is(err, io.EOF) {
		t.Errorf("after eof: %v", err)
	}
}

func TestForwardErrors(t *testing.T) {
	a := serveNet(t)
	l := listenLocal(t, "tcp")
	nobody := listenLocal(t, "tcp")
	nobody.Close()
	first := func(r *guestdv1.ForwardRequest) func() error {
		return func() error {
			_, err := a.open(t, r)
			return err
		}
	}
	later := func(requests ...*guestdv1.ForwardRequest) func() error {
		return func() error {
			f, conn := a.take(t, l)
			f.send(t, requests...)
			_, _, err := f.rest()
			// After an eof it reads an end, and cannot write.
			if _, readErr := io.ReadAll(conn); requests[0].GetEof() == nil && !errors.Is(readErr, syscall.ECONNRESET) {
				t.Errorf("the guest's end reads %v", readErr)
			}
			return err
		}
	}
	as := func(user string) *guestdv1.ForwardRequest {
		r := dialRequest("tcp", l.Addr().String())
		r.GetDial().User = user
		return r
	}
	invalid := guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	for name, c := range map[string]struct {
		call   func() error
		code   codes.Code
		reason guestdv1.ErrorReason
		meta   []string
	}{
		"refused":      {first(dialRequest("tcp", nobody.Addr().String())), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"errno", "ECONNREFUSED", "op", "connect"}},
		"no socket":    {first(dialRequest("unix", "/nowhere/at/all")), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND, []string{"errno", "ENOENT"}},
		"no host":      {first(dialRequest("tcp", "no-such-host.invalid:1")), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_HOST, nil},
		"no user":      {first(as("nobody-at-all")), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, nil},
		"no port":      {first(dialRequest("tcp", "127.0.0.1")), codes.InvalidArgument, invalid, nil},
		"no network":   {first(dialRequest("icmp", "127.0.0.1:1")), codes.InvalidArgument, invalid, nil},
		"nothing":      {first(&guestdv1.ForwardRequest{}), codes.InvalidArgument, invalid, nil},
		"data first":   {first(dataRequest(nil)), codes.InvalidArgument, invalid, nil},
		"not waiting":  {first(&guestdv1.ForwardRequest{Request: &guestdv1.ForwardRequest_Accept{Accept: &guestdv1.ForwardAccept{ConnectionId: "x"}}}), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND, nil},
		"dial twice":   {later(dialRequest("tcp", "127.0.0.1:1")), codes.InvalidArgument, invalid, nil},
		"empty later":  {later(&guestdv1.ForwardRequest{}), codes.InvalidArgument, invalid, nil},
		"after eof":    {later(forwardEOF(), dataRequest([]byte("x"))), codes.InvalidArgument, invalid, nil},
		"much at once": {later(dataRequest(make([]byte, 1<<20+1))), codes.InvalidArgument, invalid, nil},
	} {
		t.Run(name, func(t *testing.T) { wantFailure(t, c.call(), c.code, c.reason, c.meta...) })
	}
	stream, err := a.Forward(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantFailure(t, err, codes.InvalidArgument, invalid)
}

func TestForwardAsUser(t *testing.T) {
	needRoot(t)
	a := serveNet(t)
	l := listenLocal(t, "unix")
	if err := os.Chmod(l.Addr().String(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := dialRequest("unix", l.Addr().String())
	r.GetDial().User = "61234"
	_, err := a.open(t, r)
	wantFailure(t, err, codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED, "errno", "EACCES")
	r.GetDial().User = ""
	r.GetDial().Address, r.GetDial().RawAddress = "ignored", []byte(l.Addr().String())
	a.mustOpen(t, r)
}

// A stream that nobody reads holds up no other, on the same connection.
func TestForwardSlowBesideFast(t *testing.T) {
	a := serveNet(t)
	l := listenLocal(t, "tcp")
	_, slow := a.take(t, l)
	filled := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		b := make([]byte, 64<<10)
		for sent := 0; ; sent += len(b) {
			if sent == 8<<20 {
				close(filled)
			}
			if _, err := slow.Write(b); err != nil {
				return
			}
		}
	})
	defer writer.Wait()
	defer slow.Close()
	fast, conn := a.take(t, l)
	for range 100 {
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := fast.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-filled:
		t.Error("8 MiB went to somebody who does not read")
	default:
	}
}

// A server that ends tells every call, and resets every connection.
func TestNetShutdown(t *testing.T) {
	a := serveNet(t)
	f, conn := a.take(t, listenLocal(t, "tcp"))
	listener, _, _ := a.listen(t, &guestdv1.ListenRequest{Network: "tcp", Address: "127.0.0.1:0"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	_, _, err := f.rest()
	wantFailure(t, err, codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	_, err = listener.Recv()
	wantFailure(t, err, codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the guest's end reads %v", err)
	}
}
