package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// Cmd is a command to be run in the guest, or being run. It is shaped like
// exec.Cmd and means the same wherever it can; it is for one use, by one
// goroutine, but Signal and Resize may be called from any.
//
// A connection that breaks does not end the command: output goes on where it
// stopped, without a byte lost or repeated, as soon as the agent is reached
// again (see Config.ReattachTimeout). Commands with a Stdin cannot do that, as
// nobody knows what of it had arrived; they fail with [ErrUnavailable], and
// OnDisconnect decides about the process.
type Cmd struct {
	// Spec says what to run and how. Start fills in what Stdin, Stdout and
	// Stderr call for.
	Spec

	// Stdin is the command's input; nil is /dev/null (on a terminal: no
	// input). It is read until its end or the command's. If the command ends
	// first, Wait does not wait for a Read in progress; what that Read returns
	// is lost.
	Stdin io.Reader

	// Stdout and Stderr receive the output; nil is /dev/null. If both are the
	// same comparable value, one goroutine at a time writes to it, in the
	// order of the command's writes. A writer that is slow makes the command
	// wait. One that fails ends the command as a closed pipe does, with
	// SIGPIPE to its process group, and Wait returns the writer's error.
	//
	// On a terminal all output goes to Stdout.
	Stdout, Stderr io.Writer

	// OnDisconnect is what becomes of the command if this program dies, closes
	// the client, or loses the connection for good.
	OnDisconnect OnDisconnect

	// NoReattach makes a broken connection an error at once.
	NoReattach bool

	// WaitDelay is how long Wait goes on copying after the command's end while
	// a background child still holds its output. Zero: not at all. Either way,
	// ExitStatus.OutputHeld says whether there was such a child.
	WaitDelay time.Duration

	// Cancel is called when Start's context is done, to end the command; Wait
	// then waits for it to end however long it takes. Nil, or an error, kills
	// the whole tree of the command.
	Cancel func() error

	// Process is the command's process, once it has started.
	Process *Process

	// ExitStatus is how it ended, after Wait; nil if that is not known.
	ExitStatus *ExitStatus

	client  *Client
	run     *cmdRun
	waited  bool
	pipes   [streams]*pipe // of StdoutPipe and StderrPipe
	input   *io.PipeReader
	capture *prefixSuffix // of Output's stderr
}

// Command returns a command that runs a program with arguments. Nothing happens
// in the guest before it is started.
func (c *Client) Command(name string, args ...string) *Cmd {
	return &Cmd{client: c, Spec: Spec{Args: append([]string{name}, args...)}}
}

// Shell returns a command that runs a script in the login shell of its user.
func (c *Client) Shell(script string) *Cmd {
	return &Cmd{client: c, Spec: Spec{Script: script}}
}

// Run starts the command and waits for its end.
func (c *Cmd) Run(ctx context.Context) error {
	receive, err := c.start(ctx)
	if err != nil {
		return err
	}
	receive() // not in a goroutine: for a short command the switches would count
	return c.Wait()
}

// Output runs the command and returns what it writes to stdout. If Stderr is
// nil, an [*ExitError] holds the beginning and the end of what it wrote to
// stderr.
func (c *Cmd) Output(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("client: Stdout already set")
	}
	var stdout bytes.Buffer
	c.Stdout = &stdout
	if c.Stderr == nil && c.Terminal == nil && !c.MergeStderr {
		c.capture = &prefixSuffix{limit: 32 << 10}
		c.Stderr = c.capture
	}
	err := c.Run(ctx)
	if exit, ok := errors.AsType[*ExitError](err); ok && c.capture != nil {
		exit.Stderr = c.capture.Bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns what it writes to stdout and
// stderr, in the order in which it does.
func (c *Cmd) CombinedOutput(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("client: Stdout or Stderr already set")
	}
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	err := c.Run(ctx)
	return output.Bytes(), err
}

// StdinPipe returns a pipe to the command's input. Closing it ends the input;
// Wait closes it, too. When the command has ended, writes fail with
// [io.ErrClosedPipe].
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil {
		return nil, errors.New("client: Stdin already set")
	}
	if c.run != nil {
		return nil, errStarted
	}
	r, w := io.Pipe()
	c.Stdin, c.input = r, r
	return w, nil
}

// StdoutPipe returns a pipe from the command's stdout, which holds 64 KiB; the
// command waits while it is full. Closing it early ends the command as a closed
// pipe does. Read it to its end before Wait, or in another goroutine.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	if c.Stdout != nil {
		return nil, errors.New("client: Stdout already set")
	}
	return c.outputPipe(Stdout, &c.Stdout)
}

// StderrPipe is StdoutPipe for stderr.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) {
	if c.Stderr != nil {
		return nil, errors.New("client: Stderr already set")
	}
	return c.outputPipe(Stderr, &c.Stderr)
}

func (c *Cmd) outputPipe(stream Stream, writer *io.Writer) (io.ReadCloser, error) {
	if c.run != nil {
		return nil, errStarted
	}
	p := newPipe()
	c.pipes[stream] = p
	*writer = pipeWriter{p}
	return pipeReader{p}, nil
}

// Signal sends a signal to the command's process group.
func (c *Cmd) Signal(ctx context.Context, signal Signal) error {
	if c.Process == nil {
		return errNotStarted
	}
	return c.Process.Signal(ctx, signal, ScopeGroup)
}

// Resize sets the size of the command's terminal.
func (c *Cmd) Resize(ctx context.Context, size TerminalSize) error {
	if c.Process == nil {
		return errNotStarted
	}
	return c.Process.Resize(ctx, size)
}

var (
	errStarted    = errors.New("client: command already started")
	errNotStarted = errors.New("client: command not started")
)
