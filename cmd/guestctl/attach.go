package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// attachFlags are the options of attach.
type attachFlags struct {
	noStdin    bool
	noSignals  bool
	replay     bool
	lossless   bool
	detachKeys string
}

const attachLong = `Connect to a process that is running in the guest: its output is shown here,
stdin is passed on to it, and guestctl exits with its exit code.

Output is shown from now on; with --replay what is kept of it first. Stdin is
passed on if the process has one ('run -i', 'run -t', 'exec --keep -i'), and its
end too. If the process has a terminal and stdin is one, that becomes raw and
follows its size; Ctrl-P Ctrl-Q then leaves the process running and ends
guestctl. INT, QUIT, USR1 and USR2 sent to guestctl go to the process; TERM and
HUP leave it alone and end guestctl.

If the connection breaks, guestctl resumes where it was as soon as the agent can
be reached again.`

func newAttach(a *app) *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach [flags] ID",
		Short: "Connect to a process that is already running",
		Long:  attachLong,
		Example: `  guestctl attach web
  guestctl attach --replay --no-stdin build
  echo quit | guestctl attach server`,
		Args:              arguments(cobra.ExactArgs(1)),
		Annotations:       map[string]string{passesExitCode: "yes"},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.attach(cmd.Context(), &f, args[0]) },
		ValidArgsFunction: a.completeProcess(1, running),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.noStdin, "no-stdin", false, "pass no input on")
	flags.BoolVar(&f.noSignals, "no-signals", false, "pass no signals on: they end guestctl alone")
	flags.BoolVar(&f.replay, "replay", false, "begin with the output that is kept from before")
	flags.BoolVar(&f.lossless, "lossless", false, "have the process wait for a slow reader, instead of missing output")
	flags.StringVar(&f.detachKeys, "detach-keys", "", "`keys` that leave the process, on a terminal (default "+defaultDetachKeys+"; none for none)")
	return cmd
}

// attachedTo is a process with this side's terminal and signals connected.
type attachedTo struct {
	app      *app
	process  *client.Process
	output   *client.Attachment
	terminal *terminal // nil if either side has none
	signals  bool
}

func (a *app) attach(parent context.Context, f *attachFlags, id string) error {
	keys, err := detachKeys(f.detachKeys, true)
	if err != nil {
		return err
	}
	c, err := a.connect(parent)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	defer cancel(nil)
	a.stdout.failed = cancel
	t := &attachedTo{app: a, process: c.Process(id), signals: !f.noSignals}
	signals := relaySignals(t, cancel)
	defer signals.stop()
	a.interruption.handOver()
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	info, err := t.process.Info(ctx)
	if err == nil {
		t.output, err = t.process.Attach(ctx, client.AttachOptions{
			From:     &client.Offsets{},
			FromNow:  !f.replay,
			Lossless: f.lossless,
		})
	}
	if err != nil {
		return firstCause(ctx, err)
	}
	defer release(t.output)
	input := a.stdin
	if info.Spec.Terminal != nil && isTerminal(a.stdin) && !f.noStdin {
		keyboard := newDetachReader(a.stdin, keys)
		defer keyboard.release()
		input = keyboard
		restore, err := t.takeTerminal(ctx)
		if err != nil {
			return err
		}
		defer restore()
		go leaveAt(ctx, keyboard, cancel)
	}
	signals.start(ctx)
	if !f.noStdin && info.Running() && (info.Spec.OpenStdin || info.Spec.Terminal != nil) {
		// Not awaited: a Read of stdin cannot be ended.
		go t.feed(ctx, input, cancel)
	}
	return t.wait(ctx)
}

// errDetached is the cause of an end by the detach keys.
var errDetached = errors.New("detached")

// leaveAt ends ctx when the detach keys were typed.
func leaveAt(ctx context.Context, keyboard *detachReader, cancel context.CancelCauseFunc) {
	select {
	case <-keyboard.detached:
		cancel(errDetached)
	case <-ctx.Done():
	}
}

// takeTerminal makes this terminal the process's.
func (t *attachedTo) takeTerminal(ctx context.Context) (restore func(), err error) {
	if t.terminal, err = openTerminal(t.app.stdin); err != nil {
		return nil, err
	}
	if err := t.resize(ctx); err != nil {
		return nil, err
	}
	return t.terminal.raw()
}

// feed passes input on until its end or the process's.
func (t *attachedTo) feed(ctx context.Context, input io.Reader, cancel context.CancelCauseFunc) {
	b := make([]byte, 32<<10)
	for {
		n, err := input.Read(b)
		if n > 0 {
			if err := t.process.WriteInput(ctx, b[:n]); err != nil {
				t.inputFailed(err, cancel)
				return
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = t.process.CloseInput(ctx)
		}
		t.inputFailed(err, cancel)
		return
	}
}

// inputFailed ends guestctl, unless it was that the process takes no input any
// more: then its output still counts.
func (t *attachedTo) inputFailed(err error, cancel context.CancelCauseFunc) {
	if err != nil && !isGone(err) {
		cancel(err)
	}
}

// isGone reports whether a call failed because the process has ended.
func isGone(err error) bool {
	return errors.Is(err, client.ErrProcessEnded) || errors.Is(err, client.ErrProcessNotFound)
}

// wait copies output until the process has ended.
func (t *attachedTo) wait(ctx context.Context) error {
	status, err := t.app.copyOutput(t.output, t.app.stdout, t.app.stderr)
	if t.terminal != nil {
		t.terminal.restore()
	}
	if err != nil {
		err = firstCause(ctx, err)
		if errors.Is(err, errDetached) {
			t.app.warnDetached(t.process.ID())
			return nil
		}
		return err
	}
	if status == nil {
		return fmt.Errorf("process %s: its output ended without an exit", t.process.ID())
	}
	return t.app.exited(status)
}

// copyOutput is CopyTo over gaps, of which it tells.
func (a *app) copyOutput(from *client.Attachment, stdout, stderr io.Writer) (*client.ExitStatus, error) {
	for {
		status, err := from.CopyTo(stdout, stderr)
		gap, ok := errors.AsType[*client.GapError](err)
		if !ok {
			return status, err
		}
		a.warn("%s", message(gap))
	}
}

// firstCause is what ended ctx, if anything did, else err.
func firstCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return signalCode(cause)
	}
	return err
}

func (t *attachedTo) signal(ctx context.Context, s os.Signal) error {
	if !t.signals || s == syscall.SIGTERM || s == syscall.SIGHUP {
		number, _ := s.(syscall.Signal)
		return &signalError{number}
	}
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	err := t.process.Signal(ctx, forwarded()[s], client.ScopeGroup)
	if isGone(err) {
		return nil
	}
	return err
}

func (t *attachedTo) resize(ctx context.Context) error {
	if t.terminal == nil {
		return nil
	}
	size := t.terminal.size()
	if size == (client.TerminalSize{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	err := t.process.Resize(ctx, size)
	if isGone(err) {
		return nil
	}
	return err
}
