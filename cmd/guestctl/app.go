package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// agentVariable is the environment's variable for the agent's address.
const agentVariable = "GUESTD_AGENT"

// quickTimeout bounds calls that an agent answers at once, whatever the guest
// does: one that does not is stopped or gone.
const quickTimeout = 30 * time.Second

// app is one invocation of guestctl: what it talks to on this machine, and the
// agent in the guest. Everything that a command reads or writes goes through
// it.
type app struct {
	stdin  io.Reader
	stdout *output
	stderr io.Writer
	lookup func(name string) (value string, found bool) // environment

	// Options of every command.
	address        string
	connectTimeout time.Duration
	retry          time.Duration // how long to wait for an agent that is not up

	client       *client.Client // made by connect
	interruption *interruption
	blocked      blocked
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, lookup func(string) (string, bool)) *app {
	a := &app{stdin: stdin, stderr: stderr, lookup: lookup}
	a.stdout = &output{w: stdout, blocked: &a.blocked}
	return a
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	ctx, a.interruption = interruptible(ctx)
	defer a.interruption.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.stdout.failed = cancel
	ended := make(chan int, 1)
	go func() { ended <- a.execute(ctx, args) }()
	return a.await(ctx, ended)
}

// execute executes a command line until ctx is done, if that can end it.
func (a *app) execute(ctx context.Context, args []string) int {
	root := newRoot(a) //nolint:contextcheck // commands have their context from cobra
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	if a.client != nil {
		err = errors.Join(err, a.client.Close())
	}
	return a.report(ctx, command, err)
}

// connect returns the client of the agent that the command line names. It
// connects with its first call, so that a command's errors tell about both.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	address, err := a.agentAddress()
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) { return vsock.Dial(ctx, address) }
	c, err := client.New(dial, client.Config{Name: address.String(), ConnectTimeout: a.connectTimeout})
	if err != nil {
		return nil, err
	}
	a.client = c
	if a.retry > 0 {
		ctx, cancel := context.WithTimeout(ctx, a.retry)
		defer cancel()
		if err := c.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// agentAddress is the address of the agent that the command line names.
func (a *app) agentAddress() (vsock.Addr, error) {
	text := a.address
	if text == "" {
		text, _ = a.lookup(agentVariable)
	}
	if text == "" {
		return vsock.Addr{}, usageError{errors.New("no agent: give --agent ADDR or set " + agentVariable +
			", for example to vsock:3:1024 (see 'guestctl help addresses')")}
	}
	address, err := vsock.ParseAddr(text)
	if err != nil {
		return vsock.Addr{}, usageError{fmt.Errorf("agent's %w (see 'guestctl help addresses')", err)}
	}
	return address, nil
}

// quick is connect with a context for calls that are answered at once.
func (a *app) quick(ctx context.Context) (*client.Client, context.Context, context.CancelFunc, error) {
	c, err := a.connect(ctx)
	ctx, cancel := context.WithTimeout(ctx, quickTimeout)
	return c, ctx, cancel, err
}

// warn writes a line to stderr that is no failure of the command.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "guestctl: %s\n", fmt.Sprintf(format, args...))
}

// release closes what was only read from, when an error says nothing new.
func release(c io.Closer) { _ = c.Close() }

// env is a variable of guestctl's environment.
func (a *app) env(name string) string {
	value, _ := a.lookup(name)
	return value
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// arguments makes a mistake in the number of arguments a usageError that says
// what is one too many, or how the command is used.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if _, own := errors.AsType[usageError](err); err == nil || own {
			return err
		}
		for n := len(args) - 1; n >= 0; n-- {
			if check(cmd, args[:n]) == nil {
				return usagef("unexpected argument %q", args[n])
			}
		}
		return usagef("arguments are missing: %s", cmd.UseLine())
	}
}
