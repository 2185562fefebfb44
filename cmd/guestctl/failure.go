package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// Exit codes of guestctl itself; exitCodesHelp documents them.
const (
	exitFailed        = 1   // the guest or this machine refused a file or agent command
	exitUsage         = 2   // a mistake in the command line of such a command
	exitTimeout       = 124 // as timeout(1)
	exitNotExecutable = 126 // as in a shell
	exitNotFound      = 127 // as in a shell
	exitSignal        = 128 // plus the signal's number
	exitBroken        = 255 // no connection; any own failure of a command that passes a program's code on
)

const exitCodesHelp = `exec, sh, attach and a plain wait end as the program in the guest did:

  0-255    the program's own exit code
  128+n    signal n ended it, in Linux's numbers: 137 is KILL, 143 is TERM
  127      there is no such program
  126      it exists, but cannot be executed
  124      it was ended by --timeout; or a wait's --timeout expired
  255      guestctl failed: bad usage, no connection, no such user, and so on

A wait for conditions ends with 0, or with 1 if the process ended first; 124 and 255
are as above. ssh ends as ssh(1) does, which also reports 255 for a program that a
signal ended. The other commands have codes of their own:

  0        done
  1        refused or failed: no such file, permission denied, and so on
  2        a mistake in the command line
  255      no agent, or the connection to it broke

Any command that a signal ends exits with 128+n, and with 141 (128+PIPE) when
the reader of its output has gone away, as in 'guestctl cat :/big | head'. What
went wrong is on stderr, where guestctl's own lines begin with "guestctl".
`

// passesExitCode is the annotation of commands whose exit code is the
// program's, so that none of guestctl's own but 255 may mix with it.
const passesExitCode = "passes-exit-code"

// exitCode ends guestctl with a code and without a word.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// codedError ends guestctl with a code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }

func (e *codedError) Unwrap() error { return e.err }

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command as failed, all of whose errors were reported already.
var errReported = errors.New("reported")

// report prints what went wrong with a command, if anything, and returns the
// exit code.
func (a *app) report(ctx context.Context, command *cobra.Command, err error) int {
	if out := a.stdout.failure(); out != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, out)) {
		err = out
	}
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if closedEarly(err) {
		return exitSignal + int(syscall.SIGPIPE)
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return exitSignal + int(s.signal)
	}
	return a.explain(command, err)
}

// explain prints err and returns its code.
func (a *app) explain(command *cobra.Command, err error) int {
	program := command != nil && command.Annotations[passesExitCode] != ""
	own := func(code int) int {
		if program {
			return exitBroken
		}
		return code
	}
	if errors.Is(err, errReported) {
		return own(exitFailed)
	}
	path := "guestctl"
	if command != nil {
		path = command.CommandPath()
	}
	if bad, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(a.stderr, "%s: %v\nTry '%s --help'.\n", path, bad, path)
		return own(exitUsage)
	}
	fmt.Fprintf(a.stderr, "guestctl: %s\n", message(err))
	if hint := a.hint(err); hint != "" {
		fmt.Fprintf(a.stderr, "guestctl: %s\n", hint)
	}
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code
	}
	if start, ok := errors.AsType[*client.StartError](err); ok && isAboutProgram(start) {
		return startCode(start)
	}
	if errors.Is(err, client.ErrUnavailable) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return exitBroken
	}
	return own(exitFailed)
}

// complain prints an error of one of several operands; the command goes on.
func (a *app) complain(err error) { fmt.Fprintf(a.stderr, "guestctl: %s\n", message(err)) }

// isFinal reports whether an error ends a command that otherwise goes on with
// its next operand.
func isFinal(err error) bool {
	_, out := errors.AsType[*outputError](err)
	_, usage := errors.AsType[usageError](err)
	_, code := errors.AsType[exitCode](err)
	return out || usage || code || errors.Is(err, client.ErrUnavailable) || errors.Is(err, context.Canceled)
}

// message is an error's text, fit for a terminal: paths of this machine and of
// the command line are in it as they are.
func message(err error) string { return escape(err.Error()) }

// isAboutProgram reports whether it was the program itself that could not be
// started: an unknown user says nothing of it, nor does a guest that is out of
// processes, memory or descriptors.
func isAboutProgram(err *client.StartError) bool {
	return (err.Stage == "lookup" || err.Stage == "exec") && !errors.Is(err, client.ErrLimit)
}

// startCode is what a shell exits with when it cannot start such a program.
func startCode(err *client.StartError) int {
	if errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotExecutable
}

// hint says what to do about an agent that cannot be reached.
func (a *app) hint(err error) string {
	const again = " A guest that is still booting is waited for with --retry 30s"
	broken, ok := errors.AsType[*client.ConnectionError](err)
	if !ok && errors.Is(err, context.DeadlineExceeded) {
		return "the guest does not answer; is it paused, or out of memory?"
	}
	if !ok {
		return ""
	}
	address, _ := vsock.ParseAddr(broken.Agent)
	switch {
	case broken.Lost:
		return "the guest may have gone down, or its agent may have been restarted; 'guestctl ps -a' lists what still runs"
	case errors.Is(err, vsock.ErrBadReply):
		return "that socket is not a VMM's vsock multiplexer; a plain unix socket is addressed as unix:PATH"
	case errors.Is(err, fs.ErrNotExist) && address.Transport == vsock.Unix:
		return "there is no such socket; is the agent serving there ('guestd serve --listen " + broken.Agent + "')?"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket; is the machine running, with its vsock device at that path?" + again
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return "nothing answers there; is guestd running in the guest, and serving that port?" + again
	case errors.Is(err, fs.ErrPermission):
		return "an agent's unix socket is for its own user and root, a VMM's socket for whoever may write to its file"
	case errors.Is(err, syscall.ENODEV), errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.EAFNOSUPPORT):
		return "this machine has no AF_VSOCK (on Linux: modprobe vhost_vsock); Firecracker and Cloud Hypervisor want hybrid:SOCKET:PORT"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "the guest does not answer; is it running, and not paused?" + again
	}
	return "is the address right? See 'guestctl help addresses'"
}
