package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Field numbers of the messages of Exec that carry bytes.
const (
	execStdinField  protowire.Number = 3 // ExecRequest.stdin
	execStdoutField protowire.Number = 2 // ExecResponse.stdout
	execStderrField protowire.Number = 3 // ExecResponse.stderr
)

// execStream is one Exec call that outlives its connection: it knows how far it
// has read, and goes on from there on a new one. It hands out each byte of
// output once, in order, or says what is missing.
//
// next and close are for one goroutine. Only a stream with input may be sent to,
// by one goroutine; it does not resume, because nobody knows how much of its
// input had arrived when the connection broke.
type execStream struct {
	client   *Client
	input    bool
	resume   bool
	noFollow bool
	fromNow  *Offsets // where an attach that wanted no old output began; else nil
	mode     guestdv1.SubscribeMode

	call    guestdv1.ProcessService_ExecClient
	cancel  context.CancelFunc // of call
	process *guestdv1.Process  // from the started message

	in      wire.Incoming
	message guestdv1.ExecResponse
	scratch []byte
	offsets [streams]position
	exit    *ExitStatus // once it was handed out
}

// position is where the reader is in one output stream.
type position struct {
	next  uint64 // absolute offset of the byte that is to come next
	known bool   // false until something was read, if where reading began is not known
}

// execEvent is what next returns.
type execEvent struct {
	kind   eventKind
	stream Stream
	offset uint64
	data   []byte      // of eventData; valid until the next call
	gap    Gap         // of eventGap
	exit   *ExitStatus // of eventExit
}

type eventKind int

const (
	eventNone eventKind = iota // nothing new
	eventData
	eventGap
	eventExit
)

// open makes the call with its first request, start or attach, and takes the
// answer. A start must carry an id: it is repeated if the connection breaks
// before the answer, be it before the call was made on it. Errors are gRPC's own.
func (s *execStream) open(ctx context.Context, first *guestdv1.ExecRequest) error {
	before := s.client.reach()
	opened, err := s.connect(ctx, first, 0)
	// One that is the client's first has been no agent's yet.
	broke := opened || before.connections > 0 && before.reached()
	if broke && s.resume && isConnectionLost(err) {
		return s.again(ctx, first, err)
	}
	return err
}

// again repeats connect until it succeeds or time runs out; cause is the error
// that made it necessary.
func (s *execStream) again(ctx context.Context, first *guestdv1.ExecRequest, cause error) error {
	r := s.client.recover()
	for r.next(ctx) {
		if _, err := s.connect(ctx, first, time.Until(r.deadline)); !isConnectionLost(err) {
			return err
		}
	}
	return cause
}

// connect makes one attempt, which lasts at most limit if that is positive.
// Opened tells whether there was a connection to make it on.
func (s *execStream) connect(ctx context.Context, first *guestdv1.ExecRequest, limit time.Duration) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	if limit > 0 {
		timer := time.AfterFunc(limit, cancel)
		defer func() {
			if !timer.Stop() && err == nil {
				err = status.Error(codes.Unavailable, "no answer in time")
			}
		}()
	}
	call, err := s.invoke(ctx)
	if err != nil {
		cancel()
		return false, err
	}
	// A failed Send is io.EOF; the reason comes with RecvMsg.
	_ = call.Send(first)
	s.in = wire.Incoming{
		ChunkFields: []protowire.Number{execStdoutField, execStderrField},
		Message:     &s.message,
	}
	if err = unexpectedEOF(call.RecvMsg(&s.in)); err == nil && s.message.GetStarted() == nil {
		err = protocolError("no started at the beginning of a stream")
	}
	if err != nil {
		cancel()
		return true, err
	}
	s.call, s.cancel, s.process = call, cancel, s.message.GetStarted().GetProcess()
	return true, nil
}

// invoke makes a call of which nothing has been sent. Without input the first
// request is the only one, and gRPC is told so: it then goes out as one frame
// with the end of the stream. A stream still open for requests at its end would
// have to be reset, which wakes the agent once more.
func (s *execStream) invoke(ctx context.Context) (guestdv1.ProcessService_ExecClient, error) {
	if s.input {
		return s.client.process.Exec(ctx)
	}
	desc := grpc.StreamDesc{StreamName: "Exec", ServerStreams: true}
	call, err := s.client.conn.NewStream(ctx, &desc, guestdv1.ProcessService_Exec_FullMethodName)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[guestdv1.ExecRequest, guestdv1.ExecResponse]{ClientStream: call}, nil
}

// next returns the next event, or io.EOF when the agent has ended the stream.
// The context must be open's. Errors are gRPC's own.
func (s *execStream) next(ctx context.Context) (execEvent, error) {
	for {
		err := s.call.RecvMsg(&s.in)
		if err == nil {
			event, err := s.accept()
			if event.kind != eventNone || err != nil {
				return event, err
			}
			continue
		}
		if errors.Is(err, io.EOF) && s.exit == nil && !s.noFollow {
			err = protocolError("a stream ended without an exit")
		}
		if !s.resume || !isConnectionLost(err) || ctx.Err() != nil {
			return execEvent{}, err
		}
		s.cancel()
		if err := s.again(ctx, s.attachRequest(), err); err != nil {
			return execEvent{}, err
		}
	}
}

// attachRequest asks for what has not been read.
func (s *execStream) attachRequest() *guestdv1.ExecRequest {
	attach := &guestdv1.ExecAttach{Process: s.process.GetHandle(), Mode: s.mode, NoFollow: s.noFollow}
	if p := s.offsets[Stdout]; p.known {
		attach.StdoutOffset = &p.next
	} else if s.fromNow != nil {
		attach.StdoutOffset = &s.fromNow.Stdout
	}
	if p := s.offsets[Stderr]; p.known {
		attach.StderrOffset = &p.next
	} else if s.fromNow != nil {
		attach.StderrOffset = &s.fromNow.Stderr
	}
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Attach{Attach: attach}}
}

// accept makes an event of what was received; none if it tells nothing new.
func (s *execStream) accept() (execEvent, error) {
	switch s.in.Bulk() {
	case execStdoutField:
		return s.data(Stdout, s.in.Offset(), s.bytes())
	case execStderrField:
		return s.data(Stderr, s.in.Offset(), s.bytes())
	}
	switch m := s.message.GetEvent().(type) {
	case *guestdv1.ExecResponse_Stdout:
		return s.data(Stdout, m.Stdout.GetOffset(), m.Stdout.GetData())
	case *guestdv1.ExecResponse_Stderr:
		return s.data(Stderr, m.Stderr.GetOffset(), m.Stderr.GetData())
	case *guestdv1.ExecResponse_Gap:
		return s.gap(m.Gap)
	case *guestdv1.ExecResponse_Exit:
		if s.exit != nil {
			return execEvent{}, nil // repeated after a reattach
		}
		s.exit = exitFromWire(m.Exit)
		return execEvent{kind: eventExit, exit: s.exit}, nil
	}
	// Something of a newer agent.
	return execEvent{}, nil
}

// bytes is the payload received, in one piece.
func (s *execStream) bytes() []byte {
	s.scratch = contiguous(&s.in, s.scratch)
	return s.scratch
}

// data checks a chunk against what was read before. What was read already is
// cut off.
func (s *execStream) data(stream Stream, offset uint64, data []byte) (execEvent, error) {
	at := &s.offsets[stream]
	if !at.known {
		*at = position{next: offset, known: true}
	}
	if offset > at.next {
		return execEvent{}, protocolError("%s jumps from %d to %d", stream, at.next, offset)
	}
	if at.next-offset >= uint64(len(data)) {
		return execEvent{}, nil
	}
	data = data[at.next-offset:]
	offset = at.next
	at.next += uint64(len(data))
	return execEvent{kind: eventData, stream: stream, offset: offset, data: data}, nil
}

func (s *execStream) gap(g *guestdv1.OutputGap) (execEvent, error) {
	stream := streamFromWire(g.GetStream())
	at := &s.offsets[stream]
	gap := Gap{Stream: stream, Offset: g.GetOffset(), Bytes: g.GetBytes()}
	end := gap.Offset + gap.Bytes
	switch {
	case end < gap.Offset || at.known && gap.Offset > at.next:
		return execEvent{}, protocolError("%s has a gap at %d of %d bytes, was at %d", stream, gap.Offset, gap.Bytes, at.next)
	case at.known && end <= at.next:
		return execEvent{}, nil
	case at.known:
		gap.Offset, gap.Bytes = at.next, end-at.next
	}
	*at = position{next: end, known: true}
	return execEvent{kind: eventGap, gap: gap}, nil
}

// close ends the call. It does not wait for the agent.
func (s *execStream) close() {
	s.cancel()
	s.in.Free()
}
