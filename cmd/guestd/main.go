//go:build linux

// Command guestd is the agent inside a microVM: gRPC for the host and SSH for
// people, over vsock. Started as PID 1 it is also the guest's init. See `guestd
// help`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/guestd/guestd/internal/boot"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd/scp"
)

// Exit codes. A failure is 1 so that a supervisor starts the agent again; bad
// usage is 2, as for package flag.
const (
	exitFailure = 1
	exitUsage   = 2
)

const usage = `guestd is the agent inside a Linux microVM: it runs programs and moves files for
the host, over gRPC on vsock.

Usage:

  guestd serve [options]   serve until SIGTERM; 'guestd serve --help' lists them
  guestd sftp-server       serve SFTP on standard input and output, with the
                           options of OpenSSH's; also when called sftp-server
  guestd scp               the far half of 'scp -O'; also when called scp
  guestd version [--json]  print the version
  guestd help              print this

As PID 1, in an initramfs as /init or with init=/sbin/guestd, it is the guest's
init: it mounts what is missing, starts itself again as the agent, reaps, and
powers off. The kernel's command line then configures it:

  guestd.listen=ADDR       as serve --listen; may be repeated
  guestd.ssh=ADDR          as serve --ssh; may be repeated
  guestd.hostname=NAME     the hostname instead of /etc/hostname
  guestd.config=FILE       as serve --config
  guestd.modules=A,B       more kernel modules to load
  guestd.poweroff=reboot   end by rebooting, for VMMs that exit only then
`

// shimCommand is how package proc has this binary apply, in the child, what
// only a process itself can set before it executes a program.
const shimCommand = "exec-shim"

func main() {
	os.Exit(run(command(os.Args), os.Stdout, os.Stderr))
}

// command is the arguments that argv stands for: a link with the name of a
// program that guestd contains is that program.
func command(argv []string) []string {
	if name := filepath.Base(argv[0]); slices.Contains(tools(), name) {
		return append([]string{name}, argv[1:]...)
	}
	return argv[1:]
}

func run(args []string, stdout, stderr io.Writer) int {
	if os.Getpid() == 1 {
		return runInit(args, stderr)
	}
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "serve":
		return fail(stderr, serve(args[1:], stdout, stderr))
	case "sftp-server":
		return fail(stderr, sftpServer(args[1:], os.Stdin, stdout, stderr))
	case "scp":
		return fail(stderr, runSCP(args[1:], stdio{os.Stdin, stdout}, stdout))
	case "version", "-version", "--version":
		return fail(stderr, printVersion(args[1:], stdout))
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	case shimCommand:
		return fail(stderr, proc.ExecShim())
	}
	fmt.Fprintf(stderr, "guestd: unknown command %q; 'guestd help' lists them\n", args[0])
	return exitUsage
}

// runInit is PID 1. The kernel hands parameters that it does not know to init
// as arguments, so they mean nothing, unless somebody started a container with
// `guestd serve` and the options for it.
func runInit(args []string, stderr io.Writer) int {
	config := boot.Config{}
	if len(args) > 0 && args[0] == "serve" {
		config.Command = func(boot.Options) []string { return args }
	}
	status, err := boot.Run(config)
	if err != nil {
		return fail(stderr, err)
	}
	return status
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func fail(stderr io.Writer, err error) int {
	var bad usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, scp.ErrIncomplete):
		return exitFailure // the other side has told its user
	case errors.As(err, &bad):
		fmt.Fprintf(stderr, "guestd: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "guestd: %v\n", err)
	return exitFailure
}
