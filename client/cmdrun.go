package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// killTimeout bounds how long a command whose context is done may take to be
// killed, and then to be reported dead.
const killTimeout = 10 * time.Second

// cmdRun is a command that was started.
type cmdRun struct {
	client  *Client
	process *Process
	stream  *execStream
	cancel  context.CancelFunc // ends the stream and unblocks all who use it
	input   *io.PipeReader     // the end of a StdinPipe that is read; nil without one

	sinks   [streams]io.Writer // nil: dropped
	copiers sync.WaitGroup     // of a stderr with a writer of its own

	// received is closed when receive has returned; the fields after it are
	// its own until then.
	received    chan struct{}
	streamErr   error
	exit        *ExitStatus
	interrupted bool // ctx was done before the command had ended

	stopKill func() bool // keeps the killer from starting

	// killed is closed when the killer, if it started, has ended.
	killed  chan struct{}
	ctxErr  error
	killErr error

	fed chan struct{} // closed when the feeder has ended

	mu       sync.Mutex
	writeErr error // the first of the writers
	inputErr error // of Stdin
}

// Start starts the command. An error is a [*StartError] if it was the command
// that could not be started.
//
// When ctx is done, before or after Start has returned, the command and
// everything that descends from it are killed (or Cancel is called), and Wait
// returns an error that is ctx.Err().
func (c *Cmd) Start(ctx context.Context) error {
	receive, err := c.start(ctx)
	if err != nil {
		return err
	}
	go receive()
	return nil
}

// start is Start without the goroutine that receives: the caller calls receive,
// which returns when the command has ended.
func (c *Cmd) start(ctx context.Context) (receive func(), err error) {
	if c.run != nil {
		return nil, errStarted
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	request, err := c.startRequest()
	if err != nil {
		return nil, err
	}
	// The call must outlive ctx, to tell how the killed command ended.
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream := &execStream{
		client: c.client,
		input:  c.Stdin != nil,
		resume: c.resumes(),
		mode:   guestdv1.SubscribeMode_SUBSCRIBE_MODE_LOSSLESS,
	}
	stop := context.AfterFunc(ctx, cancel)
	err = stream.open(callCtx, request)
	if !stop() {
		// The agent may have started it all the same.
		cancel()
		c.client.abandon(ctx, c.ID)
		return nil, c.client.mapError("start", c.name(), status.FromContextError(ctx.Err()).Err())
	}
	if err != nil {
		cancel()
		return nil, c.client.mapError("start", c.name(), err)
	}
	c.Process = c.client.processFromWire(stream.process)
	c.run = &cmdRun{
		client:   c.client,
		process:  c.Process,
		stream:   stream,
		cancel:   cancel,
		input:    c.input,
		received: make(chan struct{}),
		killed:   make(chan struct{}),
		fed:      make(chan struct{}),
	}
	c.run.begin(ctx, c)
	return func() { c.run.receive(callCtx, c.WaitDelay) }, nil
}

// resumes reports whether the command can get over a broken connection: not with
// input of which nobody knows what arrived, nor if the agent kills it then.
func (c *Cmd) resumes() bool {
	return !c.NoReattach && c.Stdin == nil && c.OnDisconnect == KeepRunning && c.client.reattachTimeout > 0
}

// abandon kills what a start that was given up may have started. The agent may
// still be starting it, so a process that is not found is looked for again, for
// a quarter of a second in all.
func (c *Client) abandon(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	for attempt := range 8 {
		// Nobody could be told if this failed.
		if pause(ctx, attempt); !errors.Is(c.Process(id).Kill(ctx), ErrProcessNotFound) {
			return
		}
	}
}

// startRequest completes the Spec and translates it.
func (c *Cmd) startRequest() (*guestdv1.ExecRequest, error) {
	if c.ID == "" {
		c.ID = newID()
	}
	if c.Terminal == nil {
		c.OpenStdin = c.Stdin != nil
		c.DiscardStdout = c.Stdout == nil
		c.MergeStderr = c.MergeStderr || c.Stdout != nil && sameWriter(c.Stdout, c.Stderr)
		c.DiscardStderr = c.Stderr == nil && !c.MergeStderr
	}
	spec, err := c.toWire()
	if err != nil {
		return nil, err
	}
	return &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Start{Start: &guestdv1.ExecStart{
		Spec:         spec,
		OnDisconnect: c.OnDisconnect.toWire(),
		Mode:         guestdv1.SubscribeMode_SUBSCRIBE_MODE_LOSSLESS,
	}}}, nil
}

// sameWriter compares writers of which the type may not be comparable.
func sameWriter(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

// begin starts the goroutines other than the receiving one. Wait waits for the
// copiers, and for the feeder unless it is in a Read of the caller's Stdin.
func (r *cmdRun) begin(ctx context.Context, c *Cmd) {
	r.sinks[Stdout] = c.Stdout
	if c.Terminal == nil && !c.MergeStderr {
		r.sinks[Stderr] = c.Stderr
	}
	if _, piped := r.sinks[Stderr].(pipeWriter); r.sinks[Stderr] != nil && r.sinks[Stdout] != nil && !piped {
		r.separateStderr()
	}
	kill := c.Cancel
	r.stopKill = context.AfterFunc(ctx, func() { r.kill(ctx, kill) })
	if c.Stdin != nil {
		go r.feed(c.Stdin)
	}
}

// separateStderr gives stderr a goroutine, so that a program may read it after
// it has read all of stdout.
func (r *cmdRun) separateStderr() {
	stderr, p := r.sinks[Stderr], newPipe()
	r.sinks[Stderr] = pipeWriter{p}
	r.copiers.Go(func() {
		// A plain Write for each Read: Stderr's ReadFrom could wait for more.
		b := make([]byte, 32<<10)
		for {
			n, err := p.read(b)
			if n > 0 {
				_, err = stderr.Write(b[:n])
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				r.writerFailed(err)
				p.close()
				return
			}
		}
	})
}

// receive hands output to the sinks until the command has ended.
func (r *cmdRun) receive(ctx context.Context, waitDelay time.Duration) {
	defer func() {
		close(r.received)
		r.closeInput()
	}()
	defer r.cancel()
	defer r.endSinks()
	defer func() { r.interrupted = !r.stopKill() }()
	for {
		event, err := r.stream.next(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) && r.exit == nil {
				r.streamErr = err
			}
			return
		}
		switch event.kind {
		case eventData:
			r.write(ctx, event.stream, event.data)
		case eventGap:
			r.streamErr = &GapError{Process: r.process.id, Gap: event.gap}
			return
		case eventExit:
			r.exit = event.exit
			if r.exit.OutputHeld {
				if waitDelay <= 0 {
					return
				}
				defer time.AfterFunc(waitDelay, r.cancel).Stop()
			}
		}
	}
}

// endSinks tells pipes that no more follows.
func (r *cmdRun) endSinks() {
	for _, sink := range r.sinks {
		if w, ok := sink.(pipeWriter); ok {
			w.p.end()
		}
	}
}

// write hands data to a sink; one that failed gets no more.
func (r *cmdRun) write(ctx context.Context, stream Stream, data []byte) {
	sink := r.sinks[stream]
	if sink == nil {
		return
	}
	n, err := sink.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err == nil {
		return
	}
	r.sinks[stream] = nil
	if _, ok := sink.(pipeWriter); !ok {
		r.writerFailed(err)
	}
	// What the kernel does to whoever writes to a pipe that nobody reads.
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	_ = r.process.Signal(ctx, "PIPE", ScopeGroup)
}

func (r *cmdRun) writerFailed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writeErr == nil {
		r.writeErr = err
	}
}

// kill ends the command because ctx is done. If the agent does not say within
// killTimeout that it has ended, it is given up.
func (r *cmdRun) kill(ctx context.Context, cancel func() error) {
	defer close(r.killed)
	r.ctxErr = ctx.Err()
	if cancel != nil {
		if r.killErr = cancel(); r.killErr == nil {
			<-r.received
			return
		}
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer done()
	err := r.process.signal(ctx, SIGKILL, ScopeTree, grpc.WaitForReady(true))
	// The connection may be just breaking; to kill twice does no harm.
	for attempts := 1; errors.Is(err, ErrUnavailable) && pause(ctx, attempts); attempts++ {
		err = r.process.signal(ctx, SIGKILL, ScopeTree, grpc.WaitForReady(true))
	}
	if err != nil && !errors.Is(err, ErrProcessEnded) && !errors.Is(err, ErrProcessNotFound) {
		r.killErr = firstError(r.killErr, err)
	}
	select {
	case <-r.received:
	case <-ctx.Done():
		r.cancel()
	}
}

// Wait waits for the command's end and until its output is copied. The error is
// nil if it exited with code 0, an [*ExitError] if it did not, else what kept
// that from being known, or the first error of Stdout, Stderr or Stdin. If
// Start's context ended it, the error is ctx.Err() as well.
func (c *Cmd) Wait() error {
	if c.run == nil {
		return errNotStarted
	}
	if c.waited {
		return errors.New("client: Wait was already called")
	}
	c.waited = true
	r := c.run
	<-r.received
	if r.interrupted {
		<-r.killed
	}
	if c.input != nil {
		r.closeInput()
		<-r.fed
	}
	r.copiers.Wait()
	c.ExitStatus = r.exit
	return r.result()
}

// result is Wait's error.
func (r *cmdRun) result() error {
	r.mu.Lock()
	copyErr := firstError(r.writeErr, r.inputErr)
	r.mu.Unlock()
	var err error
	if r.exit == nil {
		err = r.process.mapError("run", r.streamErr)
	} else if !r.exit.Success() {
		err = &ExitError{ExitStatus: *r.exit, Process: r.process.id}
	}
	switch {
	case r.interrupted && r.exit == nil:
		return fmt.Errorf("%w; the command may still run: %w", r.ctxErr, firstError(r.killErr, err))
	case r.interrupted && err != nil:
		return fmt.Errorf("%w: %w", r.ctxErr, err)
	case r.interrupted:
		return r.ctxErr
	case err != nil && copyErr != nil:
		return fmt.Errorf("%w: %w", err, copyErr)
	}
	return firstError(err, copyErr)
}

// firstError returns the first that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
