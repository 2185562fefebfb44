package client

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Process names a process in the guest, alive or ended. Making one does not ask
// the agent; each method does. They return [ErrProcessNotFound] if the agent does
// not know the process (any more), and [ErrStaleHandle] for a handle from before
// a reboot.
type Process struct {
	client *Client
	id     string
	handle string
	pid    int
}

// Process names a process by its id or handle.
func (c *Client) Process(id string) *Process { return &Process{client: c, id: id} }

// ID returns the process's id.
func (p *Process) ID() string { return p.id }

// Handle returns the id prefixed by the boot id, which no process of another
// boot can have; empty if the process was named by [Client.Process].
func (p *Process) Handle() string { return p.handle }

// PID returns its process id in the guest's kernel; 0 if it was named by
// [Client.Process].
func (p *Process) PID() int { return p.pid }

// key is what requests name the process by.
func (p *Process) key() string {
	if p.handle != "" {
		return p.handle
	}
	return p.id
}

// ProcessInfo describes a process at one moment.
type ProcessInfo struct {
	ID          string
	Handle      string
	PID         int
	Spec        Spec // as the agent understood it, without Env
	Start       time.Time
	Exit        *ExitStatus // nil while it runs
	Stdout      OutputRange // a terminal's output too
	Stderr      OutputRange
	Subscribers int // streams reading its output at that moment
}

// Running reports whether the process had not ended at that moment.
func (i *ProcessInfo) Running() bool { return i.Exit == nil }

// OutputRange is what the agent keeps of an output stream, as absolute offsets.
type OutputRange struct {
	Oldest uint64 // of the oldest byte kept
	End    uint64 // after the newest
}

// Start starts a process that belongs to no connection; its output is kept for
// whoever attaches. If Spec.ID is in use by a process of the same spec, Start
// returns that one. A connection that breaks during the call does not make it
// start twice.
func (c *Client) Start(ctx context.Context, spec Spec) (*Process, error) {
	if spec.ID == "" {
		spec.ID = newID()
	}
	wireSpec, err := spec.toWire()
	if err != nil {
		return nil, err
	}
	request := &guestdv1.StartRequest{Spec: wireSpec}
	response, err := retry(ctx, c, func(o ...grpc.CallOption) (*guestdv1.StartResponse, error) {
		return c.process.Start(ctx, request, o...)
	})
	if err != nil {
		return nil, c.mapError("start", spec.name(), err)
	}
	return c.processFromWire(response.GetProcess()), nil
}

// name is what errors call the process.
func (s *Spec) name() string {
	if len(s.Args) > 0 {
		return s.Args[0]
	}
	return s.ID
}

// newID makes an id that no other caller has: with one, a start can be tried
// again, or undone, though its answer was lost.
func newID() string { return "c-" + rand.Text() }

// Processes describes all processes that the agent knows, oldest first: those
// that run, and those that it still keeps after their end.
func (c *Client) Processes(ctx context.Context) ([]ProcessInfo, error) {
	response, err := c.process.List(ctx, &guestdv1.ListRequest{})
	if err != nil {
		return nil, c.mapError("list processes", "", err)
	}
	infos := make([]ProcessInfo, len(response.GetProcesses()))
	for i, p := range response.GetProcesses() {
		infos[i] = processInfoFromWire(p)
	}
	return infos, nil
}

// Info describes the process.
func (p *Process) Info(ctx context.Context) (ProcessInfo, error) {
	response, err := p.client.process.Get(ctx, &guestdv1.GetRequest{Process: p.key()})
	if err != nil {
		return ProcessInfo{}, p.mapError("get process", err)
	}
	return processInfoFromWire(response.GetProcess()), nil
}

// Signal sends a signal.
func (p *Process) Signal(ctx context.Context, signal Signal, scope SignalScope) error {
	return p.signal(ctx, signal, scope)
}

func (p *Process) signal(ctx context.Context, signal Signal, scope SignalScope, opts ...grpc.CallOption) error {
	request := &guestdv1.SignalRequest{Process: p.key(), Scope: scope.toWire()}
	request.Number, request.Name = signal.toWire()
	_, err := p.client.process.Signal(ctx, request, opts...)
	return p.mapError("signal", err)
}

// Kill kills the process and everything that descends from it.
func (p *Process) Kill(ctx context.Context) error { return p.Signal(ctx, SIGKILL, ScopeTree) }

// WriteInput writes to the process's stdin and returns when its pipe or terminal
// has taken everything, which may be never: give ctx a deadline.
func (p *Process) WriteInput(ctx context.Context, data []byte) error {
	for {
		part := data[:min(len(data), wire.ChunkSize)]
		request := &guestdv1.WriteInputRequest{Process: p.key(), Data: part}
		if _, err := p.client.process.WriteInput(ctx, request); err != nil {
			return p.mapError("write input", err)
		}
		if data = data[len(part):]; len(data) == 0 {
			return nil
		}
	}
}

// CloseInput closes the process's stdin; on a terminal it sends the
// end-of-file character.
func (p *Process) CloseInput(ctx context.Context) error {
	_, err := p.client.process.WriteInput(ctx, &guestdv1.WriteInputRequest{Process: p.key(), Eof: true})
	return p.mapError("close input", err)
}

// Resize sets the size of the process's terminal.
func (p *Process) Resize(ctx context.Context, size TerminalSize) error {
	_, err := p.client.process.Resize(ctx, &guestdv1.ResizeRequest{Process: p.key(), Size: size.toWire()})
	return p.mapError("resize", err)
}

// Forget drops what the agent keeps of a process that has ended.
func (p *Process) Forget(ctx context.Context) error {
	_, err := p.client.process.Forget(ctx, &guestdv1.ForgetRequest{Process: p.key()})
	return p.mapError("forget", err)
}

func (p *Process) mapError(op string, err error) error {
	name := ""
	if p.id != "" {
		name = "process " + p.id
	}
	return p.client.mapError(op, name, err)
}

func (c *Client) processFromWire(p *guestdv1.Process) *Process {
	return &Process{client: c, id: p.GetId(), handle: p.GetHandle(), pid: int(p.GetPid())}
}

func processInfoFromWire(p *guestdv1.Process) ProcessInfo {
	return ProcessInfo{
		ID:          p.GetId(),
		Handle:      p.GetHandle(),
		PID:         int(p.GetPid()),
		Spec:        specFromWire(p.GetSpec()),
		Start:       timeFromWire(p.GetStartTime()),
		Exit:        exitFromWire(p.GetExit()),
		Stdout:      OutputRange{Oldest: p.GetStdoutOldest(), End: p.GetStdoutEnd()},
		Stderr:      OutputRange{Oldest: p.GetStderrOldest(), End: p.GetStderrEnd()},
		Subscribers: int(p.GetSubscribers()),
	}
}

// timeFromWire is the zero time for nil, which is not 1970.
func timeFromWire(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// timeToWire is nil for the zero time.
func timeToWire(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
