//go:build linux

package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// The field of ExecRequest that holds stdin.
const stdinField = 3

// execution is one Exec stream.
//
// Three goroutines work for it. The handler's own sends: nobody else calls
// SendMsg. One receives; it never waits for the process, except when the input
// that the process does not read exceeds a bound. One writes that input. The
// handler awaits the writer; the receiver cannot end before the handler has
// returned, as nothing else makes gRPC's RecvMsg return, and is awaited by the
// server.
type execution struct {
	service *processService
	stream  guestdv1.ProcessService_ExecServer
	process *proc.Process
	sub     *proc.Subscription
	created bool
	input   *inputQueue // nil: the process has no stdin

	// killAfter is set if the process must not outlive the stream: the time
	// between SIGHUP and SIGKILL.
	killAfter *time.Duration
	// last is set if the stream ends with what is kept now.
	last *lastEvents
}

// Exec starts a process or attaches to one.
func (s *processService) Exec(stream guestdv1.ProcessService_ExecServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return invalidRequest("request: the stream ended before start or attach")
	}
	if err != nil {
		return err
	}
	x := &execution{service: s, stream: stream}
	switch r := first.Request.(type) {
	case *guestdv1.ExecRequest_Start:
		err = x.start(ctx, r.Start)
	case *guestdv1.ExecRequest_Attach:
		err = x.attach(r.Attach)
	default:
		err = invalidRequest("request: the first one must be start or attach")
	}
	if err != nil {
		return err
	}
	if spec := x.process.Spec(); spec.Stdin == proc.StdinPipe || spec.TTY != nil {
		x.input = newInputQueue()
	}
	return x.run(ctx)
}

// start starts the process, or finds that of the same id.
func (x *execution) start(ctx context.Context, m *guestdv1.ExecStart) error {
	spec, err := specOf(m.GetSpec())
	if err != nil {
		return err
	}
	lossless, err := losslessOf(m.GetMode(), true)
	if err != nil {
		return err
	}
	kill := false
	switch m.GetOnDisconnect() {
	case guestdv1.OnDisconnect_ON_DISCONNECT_UNSPECIFIED, guestdv1.OnDisconnect_ON_DISCONNECT_KEEP:
	case guestdv1.OnDisconnect_ON_DISCONNECT_KILL:
		kill = true
	default:
		return invalidRequest("start.on_disconnect: no value %v", m.GetOnDisconnect())
	}
	x.process, x.sub, x.created, err = x.service.table.StartAttached(ctx, spec, proc.SubscribeOptions{Lossless: lossless})
	if err != nil {
		return err
	}
	x.service.ports.Poke()
	if kill && x.created {
		grace := max(0, cmp.Or(spec.KillGrace, proc.DefaultKillGrace))
		x.killAfter = &grace
	}
	return nil
}

// attach subscribes to a process that is there.
func (x *execution) attach(m *guestdv1.ExecAttach) error {
	p, err := x.service.process(m.GetProcess())
	if err != nil {
		return err
	}
	x.process = p
	opts := proc.SubscribeOptions{Stdout: proc.FromNow, Stderr: proc.FromNow}
	if opts.Lossless, err = losslessOf(m.GetMode(), false); err != nil {
		return err
	}
	info := p.Info()
	if !m.GetFromNow() {
		opts.Stdout, opts.Stderr = int64(info.Stdout.Start), int64(info.Stderr.Start)
		if m.StdoutOffset != nil {
			if opts.Stdout, err = offsetOf("attach.stdout_offset", *m.StdoutOffset); err != nil {
				return err
			}
		}
		if m.StderrOffset != nil {
			if opts.Stderr, err = offsetOf("attach.stderr_offset", *m.StderrOffset); err != nil {
				return err
			}
		}
	}
	if m.GetNoFollow() {
		x.last = newLastEvents(info, opts)
	}
	x.sub, err = p.Subscribe(opts)
	return err
}

// losslessOf translates a mode.
func losslessOf(mode guestdv1.SubscribeMode, unspecified bool) (bool, error) {
	switch mode {
	case guestdv1.SubscribeMode_SUBSCRIBE_MODE_UNSPECIFIED:
		return unspecified, nil
	case guestdv1.SubscribeMode_SUBSCRIBE_MODE_LOSSLESS:
		return true, nil
	case guestdv1.SubscribeMode_SUBSCRIBE_MODE_OBSERVER:
		return false, nil
	}
	return false, invalidRequest("mode: no value %v", mode)
}

// run carries the streams until they end, the client is gone, or the server
// stops.
func (x *execution) run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	var writer sync.WaitGroup
	defer func() {
		end(nil)
		// At once: a lossless subscriber that is gone must not hold the
		// process up for a moment.
		_ = x.sub.Close()
		writer.Wait()
		x.disconnected()
	}()
	started := &guestdv1.ExecStarted{Process: processMessage(x.process), Created: x.created}
	if err := x.send(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Started{Started: started}}); err != nil {
		return err
	}
	x.service.background.Go(func() {
		if err := x.receive(ctx); err != nil {
			end(err)
		}
	})
	if x.input != nil {
		writer.Go(func() {
			if err := x.input.feed(ctx, x.process); err != nil {
				end(err)
			}
		})
	}
	return x.deliver(ctx)
}

// send sends an ordinary message.
func (x *execution) send(m *guestdv1.ExecResponse) error { return x.stream.SendMsg(m) }

// disconnected does to the process what was asked for when its stream ends.
func (x *execution) disconnected() {
	if x.killAfter == nil {
		return
	}
	select {
	case <-x.process.Done():
		return
	default:
	}
	p, grace, quit := x.process, *x.killAfter, x.service.quit
	if err := p.Signal(syscall.SIGHUP, proc.ScopeTree); errors.Is(err, proc.ErrProcessDone) {
		return
	}
	x.service.background.Go(func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.Finished():
			return
		case <-timer.C:
		case <-quit:
		}
		_ = p.Signal(syscall.SIGKILL, proc.ScopeTree)
	})
}

// receive handles what the client sends until it sends no more, which is no
// error.
func (x *execution) receive(ctx context.Context) (err error) {
	defer recoverTo(&err)
	req := new(guestdv1.ExecRequest)
	in := wire.Incoming{DataField: stdinField, Message: req}
	defer in.Free()
	for {
		err := x.stream.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if in.Bulk() == stdinField {
			err = x.stdin(ctx, in.Take())
		} else {
			err = x.handle(ctx, req)
		}
		if err != nil && !errors.Is(err, proc.ErrProcessDone) {
			return err
		}
	}
}

// handle handles one request other than stdin. A process that has ended
// meanwhile is ErrProcessDone, and nobody's fault.
func (x *execution) handle(ctx context.Context, req *guestdv1.ExecRequest) error {
	switch r := req.Request.(type) {
	case *guestdv1.ExecRequest_Stdin:
		// In an encoding which the codec does not know as bulk data.
		return x.stdin(ctx, mem.BufferSlice{mem.SliceBuffer(r.Stdin)})
	case *guestdv1.ExecRequest_StdinEof:
		if x.input == nil {
			return nil // /dev/null is at its end already
		}
		return x.input.put(ctx, nil)
	case *guestdv1.ExecRequest_Resize:
		size, err := sizeOf(r.Resize)
		if err != nil {
			return err
		}
		return x.process.Resize(size)
	case *guestdv1.ExecRequest_Signal:
		sig, scope, err := signalOf(r.Signal.GetNumber(), r.Signal.GetName(), r.Signal.GetScope())
		if err != nil {
			return err
		}
		return x.process.Signal(sig, scope)
	case nil:
		return invalidRequest("request: is empty or not known to this agent")
	}
	return invalidRequest("request: start and attach are for the first one")
}

// stdin queues input, which becomes the queue's.
func (x *execution) stdin(ctx context.Context, data mem.BufferSlice) error {
	size := data.Len()
	switch {
	case size > wire.MaxData:
		data.Free()
		return invalidRequest("stdin: %d bytes are more than %d", size, wire.MaxData)
	case x.input == nil:
		data.Free()
		return proc.ErrNoStdin
	case size == 0:
		data.Free()
		return nil
	}
	return x.input.put(ctx, data)
}
