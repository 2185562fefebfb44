package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/guestd/guestd/client"
)

// closedGrace is how long a program may go on after it was told by SIGPIPE that
// nobody reads its output any more.
const closedGrace = time.Second

// execution is a command that runs in the guest, with this side's terminal and
// signals connected to it.
type execution struct {
	app      *app
	cmd      *client.Cmd
	terminal *terminal     // nil without -t
	input    *input        // nil without -i, and with -t
	keys     *detachReader // nil without a terminal's input
	keep     bool
}

// run runs the command to its end and returns how that was, as exitCode.
func (e *execution) run(parent context.Context) error {
	// Signals do not end the context here, nor does a closed stdout: the
	// command is told of both, and ends by itself.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	defer cancel(nil)
	e.app.stdout.failed = func(err error) {
		if closedEarly(err) {
			time.AfterFunc(closedGrace, func() { cancel(err) })
		}
	}
	signals := relaySignals(e, cancel)
	defer signals.stop()
	e.app.interruption.handOver()
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	// Without input from it the terminal stays as it is: Ctrl-C is a signal.
	if e.keys != nil {
		restore, err := e.terminal.raw()
		if err != nil {
			return err
		}
		defer restore()
	}
	if e.keep {
		e.cmd.Cancel = e.app.client.Close
	}
	if err := e.cmd.Start(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return signalCode(cause)
		}
		return err
	}
	signals.start(ctx)
	return e.wait(ctx)
}

// wait waits for the command's end or for the keys that leave it.
func (e *execution) wait(ctx context.Context) error {
	var waitErr error
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		waitErr = e.cmd.Wait()
	}()
	var detached <-chan struct{}
	if e.keys != nil {
		detached = e.keys.detached
		defer e.keys.release()
	}
	select {
	case <-waited:
		return e.result(ctx, waitErr)
	case <-detached:
		err := e.app.client.Close()
		<-waited
		e.terminal.restore()
		e.app.warnDetached(e.cmd.Process.ID())
		return err
	}
}

// warnDetached says how to come back. A terminal's cursor may be anywhere.
func (a *app) warnDetached(id string) {
	fmt.Fprintln(a.stderr)
	a.warn("detached; it runs on: guestctl attach %s", escape(id))
}

// signal passes a signal on, with a time-out: a guest that does not take it is
// not there any more.
func (e *execution) signal(ctx context.Context, s os.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	err := e.cmd.Signal(ctx, forwarded()[s])
	if isGone(err) {
		return nil
	}
	return err
}

func (e *execution) resize(ctx context.Context) error {
	if e.terminal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	// The next one comes, and a process that ended needs none.
	_ = e.cmd.Resize(ctx, e.terminal.size())
	return nil
}

// result is the error for the end of the command.
func (e *execution) result(ctx context.Context, err error) error {
	if e.terminal != nil {
		e.terminal.restore()
	}
	if cause := context.Cause(ctx); cause != nil {
		return signalCode(cause)
	}
	if out := e.app.stdout.failure(); out != nil && !closedEarly(out) {
		return out
	}
	if status := e.cmd.ExitStatus; status != nil {
		err := e.app.exited(status)
		if in := e.input.failure(); in != nil && err == nil {
			return in
		} else if in != nil {
			e.app.complain(in)
		}
		return err
	}
	if e.keep && (errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrOutputLost)) {
		e.app.warn("it may run on: guestctl attach %s", escape(e.cmd.Process.ID()))
	}
	return err
}

// signalCode turns the cause of what a signal ended into its exit code.
func signalCode(cause error) error {
	if s, ok := errors.AsType[*signalError](cause); ok {
		return exitCode(exitSignal + int(s.signal))
	}
	return cause
}

// exited reports what an exit code does not say, and returns that code.
func (a *app) exited(status *client.ExitStatus) error {
	if oom := status.OOM; oom != nil {
		a.warn("%s", describeOOM(oom))
	}
	if status.TimedOut {
		a.warn("ended by its time-out after %s", status.Duration.Round(time.Millisecond))
		return exitCode(exitTimeout)
	}
	if code := status.ShellCode(); code != 0 {
		return exitCode(code)
	}
	return nil
}

func describeOOM(oom *client.OutOfMemory) string {
	whose := "a memory limit"
	switch oom.Scope {
	case client.OOMProcess:
		whose = "its own memory limit"
	case client.OOMSandbox:
		whose = "the sandbox's memory limit"
	case client.OOMMachine:
		whose = "the machine's memory"
	}
	text := "out of memory: " + whose + " was reached"
	if oom.Peak > 0 {
		text += ", at a peak of " + formatSize(oom.Peak)
	}
	return text
}
