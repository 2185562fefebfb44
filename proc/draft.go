//go:build linux

package proc

import (
	"context"
	"regexp"
	"syscall"
	"time"
)

// The bodies in this file arrive with the next commits.

type Table struct{}

func NewTable(Config) (*Table, error) { panic("draft") }

// Start starts a process. With Spec.ID it is idempotent: started is false and
// p the existing process where the id is in use with a deeply equal spec, and
// ErrExists comes where it is in use with another. ctx bounds the starting
// only, not the life of the process.
func (*Table) Start(ctx context.Context, s Spec) (p *Process, started bool, err error) {
	panic("draft")
}

// StartAttached is Start with a subscription that was there before the first
// byte. The caller closes it.
func (*Table) StartAttached(ctx context.Context, s Spec, o SubscribeOptions) (p *Process, sub *Subscription, started bool, err error) {
	panic("draft")
}

// Get finds a process by id or handle ("BOOTID/ID"): ErrNotFound, ErrStale.
func (*Table) Get(id string) (*Process, error) { panic("draft") }
func (*Table) List() []*Process                { panic("draft") }

// Remove drops the record of an ended process.
func (*Table) Remove(id string) error     { panic("draft") }
func (*Table) BootID() string             { panic("draft") }
func (*Table) Capabilities() Capabilities { panic("draft") }
func (*Table) Stats() Stats               { panic("draft") }

// Environ returns the sandbox-wide environment, sorted, as "KEY=value".
func (*Table) Environ() []string                   { panic("draft") }
func (*Table) Getenv(key string) (string, bool)    { panic("draft") }
func (*Table) UpdateEnv(set, unset []string) error { panic("draft") }
func (*Table) Shutdown(ctx context.Context) error  { panic("draft") }
func (*Table) Close() error                        { panic("draft") }

type Process struct{}

func (*Process) ID() string     { panic("draft") }
func (*Process) Handle() string { panic("draft") }
func (*Process) PID() int       { panic("draft") }
func (*Process) Spec() Spec     { panic("draft") }
func (*Process) Info() Info     { panic("draft") }

// Write writes to stdin; it blocks while the pipe is full. EPIPE when the reader went.
func (*Process) Write(ctx context.Context, b []byte) (int, error) { panic("draft") }
func (*Process) CloseStdin() error                                { panic("draft") }
func (*Process) Resize(Size) error                                { panic("draft") }
func (*Process) Signal(sig syscall.Signal, scope Scope) error     { panic("draft") }

// Stop sends TERM to the tree and KILL after grace (0: the spec's), and waits for the exit.
func (*Process) Stop(ctx context.Context, grace time.Duration) error { panic("draft") }
func (*Process) Wait(ctx context.Context) (Exit, error)              { panic("draft") }

// Done is closed when the exit is reported; Finished when tree and output are gone as well.
func (*Process) Done() <-chan struct{}                               { panic("draft") }
func (*Process) Finished() <-chan struct{}                           { panic("draft") }
func (*Process) Subscribe(o SubscribeOptions) (*Subscription, error) { panic("draft") }

type Subscription struct{}

// Next waits for the next event; data is read into buf. io.EOF at the end.
func (*Subscription) Next(ctx context.Context, buf []byte) (Event, error) { panic("draft") }
func (*Subscription) Close() error                                        { panic("draft") }

// Condition is one of ExitCondition, PortCondition, OutputCondition, FileCondition, HTTPCondition.
type Condition interface {
	await(context.Context, *Table) (Match, error)
}

type ExitCondition struct{ Process *Process }
type PortCondition struct {
	Port    uint16
	Network string   // "tcp" (default) or "udp"
	Process *Process // nil: whoever listens
}
type OutputCondition struct {
	Process *Process
	Stream  Stream
	From    int64
	Pattern *regexp.Regexp
}
type FileCondition struct{ Path string }
type HTTPCondition struct {
	URL                  string
	MinStatus, MaxStatus int // 0, 0: 200 to 399
}

func (ExitCondition) await(context.Context, *Table) (Match, error)   { panic("draft") }
func (PortCondition) await(context.Context, *Table) (Match, error)   { panic("draft") }
func (OutputCondition) await(context.Context, *Table) (Match, error) { panic("draft") }
func (FileCondition) await(context.Context, *Table) (Match, error)   { panic("draft") }
func (HTTPCondition) await(context.Context, *Table) (Match, error)   { panic("draft") }

type Match struct {
	Index  int    // of the condition that came true first
	Exit   *Exit  // of an ExitCondition
	Offset uint64 // of an OutputCondition: after the byte that completed the match
	Status int    // of an HTTPCondition
}

// WaitFor waits for the first condition: ctx's error, or ErrNever when none can come true.
func (*Table) WaitFor(ctx context.Context, conds []Condition) (Match, error) { panic("draft") }

// ExecShim is what Config.Shim calls in a new process. It returns only on failure.
func ExecShim(args []string) error { panic("draft") }

// ParseRlimit returns the resource of a name such as "nofile" or "RLIMIT_NOFILE".
func ParseRlimit(name string) (resource int, ok bool) { panic("draft") }

// ParseSignal returns the signal of "TERM", "SIGTERM" or "15".
func ParseSignal(name string) (syscall.Signal, bool) { panic("draft") }
func SignalName(sig syscall.Signal) string           { panic("draft") }
