//go:build linux

package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// The bytes fields of Forward's messages.
const (
	forwardInput  protowire.Number = 3 // ForwardRequest.data
	forwardOutput protowire.Number = 2 // ForwardResponse.data
)

// maxDatagram is the most that a UDP datagram over IPv4 carries.
const maxDatagram = 65507

// forward is one Forward call with its connection.
//
// Two goroutines share the work: the handler's reads from the connection and
// sends, and another receives and writes. Neither holds the other up, so a
// guest's end that only sends, or only reads, is no problem.
type forward struct {
	service  *netService
	stream   guestdv1.NetService_ForwardServer
	conn     net.Conn
	datagram bool

	closed atomic.Bool // the client wants nothing more

	// The direction into the guest, which belongs to the goroutine that
	// receives until inputDone is closed.
	inputDone chan struct{} // closed when nothing more comes
	writing   sync.Mutex    // held from a write to the note of its error
	inputErr  error         // why the guest's end did not take it all; or nil
	eof       bool          // inputDone is closed
	pieces    [][]byte      // scratch
	scratch   []byte        // for a datagram; made when needed
}

// Forward carries one connection.
func (s *netService) Forward(stream guestdv1.NetService_ForwardServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return invalidRequest("request: the stream ended before dial or accept")
	}
	if err != nil {
		return err
	}
	f := &forward{service: s, stream: stream, inputDone: make(chan struct{})}
	switch r := first.Request.(type) {
	case *guestdv1.ForwardRequest_Dial:
		f.conn, err = s.dial(ctx, r.Dial)
	case *guestdv1.ForwardRequest_Accept:
		f.conn, err = s.accepted.claim(r.Accept.GetConnectionId())
	default:
		err = invalidRequest("request: the first one must be dial or accept")
	}
	if err != nil {
		return err
	}
	_, f.datagram = f.conn.(*net.UDPConn)
	return f.run(ctx)
}

func (s *netService) dial(ctx context.Context, m *guestdv1.ForwardDial) (net.Conn, error) {
	user, err := s.user(m.GetUser())
	if err != nil {
		return nil, err
	}
	dialer := guestnet.Dialer{User: user}
	return dialer.DialContext(ctx, m.GetNetwork(), addressOf(m.GetAddress(), m.GetRawAddress()))
}

// run moves data until both directions have ended, and closes the connection;
// after an error, so that the guest's end sees one as well.
func (f *forward) run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	// To close the connection is what ends a read or write that waits.
	stop := context.AfterFunc(ctx, func() { reset(f.conn) })
	err := f.carry(ctx, end)
	if !stop() {
		return err // it is being reset
	}
	if err != nil {
		reset(f.conn)
	} else {
		_ = f.conn.Close()
	}
	return err
}

// carry returns nil when the connection has ended in order.
func (f *forward) carry(ctx context.Context, end context.CancelCauseFunc) error {
	connected := &guestdv1.ForwardConnected{
		LocalAddress: addrText(f.conn.LocalAddr()), RemoteAddress: addrText(f.conn.RemoteAddr()),
	}
	if err := f.stream.Send(&guestdv1.ForwardResponse{Event: &guestdv1.ForwardResponse_Connected{Connected: connected}}); err != nil {
		return err
	}
	f.service.background.Go(func() {
		if err := f.receive(); err != nil {
			end(err)
		}
	})
	err := f.deliver()
	switch {
	case f.closed.Load():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	select {
	case <-f.inputDone:
		return f.inputErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// deliver sends what the guest's end sends, and its end. A call that is ended
// has its connection closed under the read.
func (f *forward) deliver() error {
	socket, ok := f.conn.(syscall.Conn)
	if !ok {
		return invalidRequest("connection: a %T has no descriptor", f.conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	for {
		b, err := f.read(raw)
		switch {
		case errors.Is(err, io.EOF):
			return f.stream.Send(&guestdv1.ForwardResponse{Event: &guestdv1.ForwardResponse_Eof{Eof: &guestdv1.ForwardEof{}}})
		case f.datagram && errors.Is(err, unix.ECONNREFUSED):
			// Said of an earlier datagram; a later one may be welcome.
			continue
		case err != nil:
			return err
		}
		if err := f.send(b); err != nil {
			return err
		}
	}
}

// read waits for bytes and returns them in a buffer of the pool. While it waits
// it holds none: a thousand quiet connections need no memory.
func (f *forward) read(raw syscall.RawConn) (b *[]byte, err error) {
	pool := f.service.pool
	var n int
	rawErr := raw.Read(func(fd uintptr) bool {
		b = pool.Get(wire.ChunkSize)
		for {
			if n, err = unix.Read(int(fd), *b); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err != nil {
			pool.Put(b)
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	ended := rawErr == nil && err == nil && n == 0 && !f.datagram
	if ended {
		pool.Put(b)
		if f.wasReset(raw) {
			err = unix.ECONNRESET
		}
	}
	switch {
	case rawErr != nil:
		return nil, rawErr
	case err != nil:
		return nil, &net.OpError{Op: "read", Net: f.conn.LocalAddr().Network(), Err: os.NewSyscallError("read", err)}
	case ended:
		return nil, io.EOF
	case n <= smallRead:
		// Thousands of these may be under way at once, but few of the others:
		// gRPC bounds them by their bytes.
		small := pool.Get(n)
		copy(*small, *b)
		pool.Put(b)
		return small, nil
	}
	*b = (*b)[:n]
	return b, nil
}

// wasReset reports whether what reads as the end of the guest's end was a reset.
// The kernel tells of one once, to who comes first: when that was a write, there
// is no more to read than an end.
func (f *forward) wasReset(raw syscall.RawConn) bool {
	const tcpClose = 7 // TCP_CLOSE of Linux's tcp_states.h
	closed := false
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == tcpClose
	})
	if !closed {
		return false // or the lock might have to be waited for
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	return errors.Is(f.inputErr, unix.ECONNRESET)
}

// smallRead is what is worth a copy, so as not to keep a large buffer for it.
const smallRead = 16 << 10

// send sends a buffer of the pool, and gives it up.
func (f *forward) send(b *[]byte) error {
	if len(*b) == 0 {
		f.service.pool.Put(b)
		return f.stream.SendMsg(&wire.Data{Field: forwardOutput})
	}
	payload := mem.NewBuffer(b, f.service.pool)
	defer payload.Free()
	return f.stream.SendMsg(&wire.Data{Field: forwardOutput, Payload: payload})
}

// receive writes what the client sends, until it wants nothing more. It returns
// an error for what ends the call, as when it was cancelled.
func (f *forward) receive() (err error) {
	defer recoverTo(&err)
	req := new(guestdv1.ForwardRequest)
	in := wire.Incoming{DataField: forwardInput, Message: req}
	defer in.Free()
	for !f.closed.Load() {
		err := f.stream.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			f.endInput() // and close is not said, but the end of the call
			return nil
		}
		if err != nil {
			return err
		}
		if in.Bulk() == forwardInput {
			f.pieces = in.AppendTo(f.pieces[:0])
			err = f.write(f.pieces, in.Len())
		} else {
			err = f.handle(req)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handle handles a request that the codec does not know as bulk data.
func (f *forward) handle(req *guestdv1.ForwardRequest) error {
	switch r := req.Request.(type) {
	case *guestdv1.ForwardRequest_Data:
		return f.write([][]byte{r.Data}, len(r.Data))
	case *guestdv1.ForwardRequest_Eof:
		f.endInput()
		return nil
	case *guestdv1.ForwardRequest_Close:
		f.close(r.Close.GetAbort())
		return nil
	case nil:
		return invalidRequest("request: is empty or not known to this agent")
	}
	return invalidRequest("request: dial and accept are for the first one")
}

// endInput tells the guest's end that nothing follows. Datagrams have no way to
// say so: there it is the end of all.
func (f *forward) endInput() {
	if f.datagram {
		f.close(false)
		return
	}
	if f.eof {
		return
	}
	if half, ok := f.conn.(interface{ CloseWrite() error }); ok {
		// It fails where the connection has broken, which the other direction
		// tells.
		_ = half.CloseWrite()
	}
	f.eof = true
	close(f.inputDone)
}

// close closes the connection because the client wants it.
func (f *forward) close(broken bool) {
	f.closed.Store(true)
	if broken {
		reset(f.conn)
	} else {
		_ = f.conn.Close()
	}
	if !f.eof {
		f.eof = true
		close(f.inputDone)
	}
}

// write writes the pieces of a message, which have size bytes. When the guest's
// end takes nothing more it drops them: what that end has sent before shall
// still arrive. The error is the client's fault.
func (f *forward) write(pieces [][]byte, size int) error {
	limit := wire.MaxData
	if f.datagram {
		limit = maxDatagram
	}
	switch {
	case f.eof:
		return invalidRequest("data: comes after eof")
	case size > limit:
		return invalidRequest("data: %d bytes are more than %d", size, limit)
	case f.inputErr != nil:
		return nil
	}
	if f.datagram {
		f.scratch = f.scratch[:0]
		for _, piece := range pieces {
			f.scratch = append(f.scratch, piece...)
		}
		_, _ = f.conn.Write(f.scratch) // datagrams may be lost
		return nil
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	list := net.Buffers(pieces)
	_, f.inputErr = list.WriteTo(f.conn)
	return nil
}

// reset closes a connection so that the other end sees an error where its
// network knows such a thing.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// addrText is an address for people and for the client; "" for none.
func addrText(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	return readable(addr.String())
}
