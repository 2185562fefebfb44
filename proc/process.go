//go:build linux

package proc

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/guestd/guestd/internal/passwd"
)

// A Process is the record of one process, from its start until it is dropped
// from the table. Its methods may be called by many goroutines, and also
// after it has been dropped.
type Process struct {
	table    *Table
	id       string
	pid      int
	started  time.Time
	spec     *Spec
	argv     []string
	dir      string
	identity passwd.Identity

	io    *stdio
	out   *output
	pidfd *os.File
	cg    *cgroup // nil: the tree is the session

	inLock   chan struct{} // capacity 1: held while writing to stdin
	inWide   bool          // stdin's pipe has been widened; with inLock
	inMu     sync.Mutex
	inClosed bool

	quit     chan struct{} // closed by abandon
	quitOnce sync.Once
	done     chan struct{} // closed when exit is set
	finished chan struct{} // closed when nothing of it is alive

	mu     sync.Mutex
	exit   *Exit
	reaped bool     // its pid may be somebody else's
	events *os.File // awaitTree's; nil before

	expires time.Time // guarded by table.mu
}

// ID returns the id, which is unique among the processes in the table.
func (p *Process) ID() string { return p.id }

// Handle returns "BOOTID/ID", which another boot refuses as stale.
func (p *Process) Handle() string { return p.table.boot + "/" + p.id }

// PID returns the process id. It may be another process's after the end.
func (p *Process) PID() int { return p.pid }

// Spec returns a copy of what the process was started with. It holds the
// environment: do not log it.
func (p *Process) Spec() Spec { return p.spec.normalized() }

// Done is closed when the exit is known.
func (p *Process) Done() <-chan struct{} { return p.done }

// Finished is closed after Done, when nothing of the process's tree is alive any
// more and its output has ended. Without cgroup2 only the output counts.
func (p *Process) Finished() <-chan struct{} { return p.finished }

// Wait waits for the exit. It may be called any number of times. The error is
// ctx's.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return *p.exitNow(), nil
	default:
	}
	select {
	case <-p.done:
		return *p.exitNow(), nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

func (p *Process) exitNow() *Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil {
		return nil
	}
	e := *p.exit
	return &e
}

// Subscribe attaches to the output. The caller closes the subscription.
func (p *Process) Subscribe(opts SubscribeOptions) (*Subscription, error) {
	return p.out.subscribe(opts)
}

// Info returns a snapshot.
func (p *Process) Info() Info {
	i := Info{
		ID: p.id, Handle: p.Handle(), PID: p.pid, State: StateRunning,
		Args: slices.Clone(p.argv), Script: p.spec.Script, Dir: p.dir,
		User: p.identity.Name, UID: p.identity.UID, GID: p.identity.GID,
		TTY: p.spec.TTY != nil, Labels: p.Spec().Labels, Started: p.started,
		Exit: p.exitNow(), Stdout: p.out.info(Stdout), Stderr: p.out.info(Stderr),
		TreeAlive: true, Subscribers: p.out.subscribers(),
	}
	if i.Exit != nil {
		i.State = StateExited
	}
	select {
	case <-p.finished:
		i.TreeAlive = false
	default:
	}
	return i
}
