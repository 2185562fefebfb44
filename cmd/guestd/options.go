//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

const serveUsage = `Serve until SIGTERM.

Usage: guestd serve [options]

Addresses are vsock::PORT, or unix:PATH for development. Only the host is
served: context id 2 on vsock; root and the agent's own user on a unix socket.

Options:

  --listen ADDRESS           serve gRPC on this address; may be repeated
                             (default vsock::1024)
  --ssh ADDRESS              serve SSH on this address; may be repeated; "none"
                             serves no SSH (default vsock::22 if gRPC is on
                             vsock and no other server has that port)
  --allow METHOD             serve only this method or service, for example
                             guestd.v1.FileService/Read; may be repeated
                             (default all)
  --require-privileged-port  refuse vsock connections from source ports of 1024
                             and above: the others only root of the host can bind
  --output-buffer-bytes N    output to keep for each stream of a process
                             (default 1 MiB)
  --output-total-bytes N     output to keep for all processes together (default
                             256 MiB or an eighth of the memory, the lesser)
  --retention DURATION       keep the exit and output of a process this long
                             after its end (default 5m)
  --log-level LEVEL          log this level and worse: debug, info, warn, error
                             (default info)
  --config FILE              read these settings from a JSON file, whose keys are
                             the names above with _ for -; options win over it
`

// parseConfig reads the options of 'guestd serve' and the file they name. Its
// errors are usageErrors, or flag.ErrHelp once help was printed to stdout.
func parseConfig(args []string, stdout io.Writer) (config, error) {
	var flags config
	var file string
	set := flag.NewFlagSet("guestd serve", flag.ContinueOnError)
	set.SetOutput(io.Discard) // the caller prints errors; usage would drown them
	set.Var((*list)(&flags.Listen), "listen", "")
	set.Var((*list)(&flags.SSH), "ssh", "")
	set.Var((*list)(&flags.Allow), "allow", "")
	set.BoolVar(&flags.RequirePrivilegedPort, "require-privileged-port", false, "")
	set.IntVar(&flags.OutputBufferBytes, "output-buffer-bytes", 0, "")
	set.Int64Var(&flags.OutputTotalBytes, "output-total-bytes", 0, "")
	set.TextVar(&flags.Retention, "retention", duration(0), "")
	set.TextVar(&flags.LogLevel, "log-level", level(0), "")
	set.StringVar(&file, "config", "", "")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(stdout, serveUsage)
		return config{}, err
	} else if err != nil {
		return config{}, usageError{fmt.Errorf("%w; 'guestd serve --help' lists the options", err)}
	}
	if set.NArg() > 0 {
		return config{}, usageError{fmt.Errorf("serve takes no arguments, only options: %q", set.Arg(0))}
	}

	var c config
	if file != "" {
		var err error
		if c, err = readConfig(file); err != nil {
			return config{}, usageError{err}
		}
	}
	set.Visit(func(f *flag.Flag) { c.override(f.Name, flags) })
	if err := c.check(); err != nil {
		return config{}, usageError{err}
	}
	return c, nil
}
