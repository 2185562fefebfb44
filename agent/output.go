//go:build linux

package agent

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// The fields of ExecResponse that hold an OutputChunk.
const (
	stdoutField protowire.Number = 2
	stderrField protowire.Number = 3
)

// idleBuffer is what a stream without output holds: a thousand quiet
// processes hold 4 MiB.
const idleBuffer = 4 << 10

// deliver sends the process's output and exit. It returns nil at their end.
func (x *execution) deliver(ctx context.Context) error {
	pool := x.service.pool
	size := idleBuffer
	for x.last == nil || !x.last.reached() {
		b := pool.Get(size)
		ev, err := x.sub.Next(ctx, *b)
		if err != nil {
			pool.Put(b)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		size = nextSize(len(*b), len(ev.Data))
		if err := x.event(ev, b); err != nil {
			return err
		}
		if x.last != nil {
			x.last.note(ev)
		}
	}
	return nil
}

// nextSize chooses the next buffer. One that was filled has more behind it;
// one that was not has been the last before a wait, for which the smallest
// will do.
func nextSize(size, filled int) int {
	switch {
	case filled < size:
		return idleBuffer
	case size < wire.ChunkSize/4:
		return wire.ChunkSize / 4
	}
	return wire.ChunkSize
}

// event sends one event, whose data lie at the beginning of the pool's buffer
// b, and gives b up.
func (x *execution) event(ev proc.Event, b *[]byte) error {
	*b = (*b)[:len(ev.Data)]
	payload := mem.NewBuffer(b, x.service.pool)
	defer payload.Free()
	if ev.Exit != nil {
		return x.send(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Exit{Exit: exitMessage(ev.Exit)}})
	}
	if ev.Gap > 0 {
		gap := &guestdv1.OutputGap{Stream: streamMessage(ev.Stream), Offset: ev.Offset - ev.Gap, Bytes: ev.Gap}
		if err := x.send(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Gap{Gap: gap}}); err != nil {
			return err
		}
	}
	if len(ev.Data) == 0 {
		return nil
	}
	field := stdoutField
	if ev.Stream == proc.Stderr {
		field = stderrField
	}
	return x.stream.SendMsg(&wire.Chunk{Field: field, Offset: ev.Offset, Payload: payload})
}

func streamMessage(s proc.Stream) guestdv1.OutputStream {
	if s == proc.Stderr {
		return guestdv1.OutputStream_OUTPUT_STREAM_STDERR
	}
	return guestdv1.OutputStream_OUTPUT_STREAM_STDOUT
}

// lastEvents knows where a stream ends that does not follow the output.
type lastEvents struct {
	until [2]uint64 // offsets, for stdout and stderr
	at    [2]uint64
	exit  bool // the exit is still to come
}

// newLastEvents returns the end for a process that is in the state of info.
func newLastEvents(info proc.Info, opts proc.SubscribeOptions) *lastEvents {
	l := &lastEvents{until: [2]uint64{info.Stdout.End, info.Stderr.End}, exit: info.Exit != nil}
	for i, from := range []int64{opts.Stdout, opts.Stderr} {
		l.at[i] = l.until[i]
		if from != proc.FromNow {
			l.at[i] = uint64(from)
		}
	}
	return l
}

// note takes account of an event that was sent.
func (l *lastEvents) note(ev proc.Event) {
	if ev.Exit != nil {
		l.exit = false
		return
	}
	i := 0
	if ev.Stream == proc.Stderr {
		i = 1
	}
	l.at[i] = ev.Offset + uint64(len(ev.Data))
}

// reached reports whether everything has been sent.
func (l *lastEvents) reached() bool {
	return !l.exit && l.at[0] >= l.until[0] && l.at[1] >= l.until[1]
}
