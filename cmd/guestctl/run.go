package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// runFlags are the options of run.
type runFlags struct {
	spec   specFlags
	stdin  bool
	tty    bool
	merge  bool
	script bool
	shell  string
	json   bool
}

const runLong = `Start a program in the guest, print its id, and leave it running.

It belongs to no connection. The newest of what it writes is kept: 'logs' shows
it, 'attach' connects to the process, 'wait' waits for its end or for something
that it does, 'kill' ends it. After its end, exit and output stay for a while
(five minutes, unless guestd was told otherwise).

With --id a second 'run' of the same program under the same id starts nothing
and prints the id again; one of another program is refused.`

func newRun(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] [--] PROG [ARG]...",
		Short: "Start a program and leave it running",
		Long:  runLong,
		Example: `  guestctl run --id web -- python3 -m http.server 8000
  guestctl wait web --port 8000 --timeout 10s
  id=$(guestctl run -u ann --memory 1G -- ./build.sh)
  guestctl run --script 'make 2>&1 | tee log'`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.start(cmd.Context(), &f, args) },
	}
	f.spec.add(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&f.stdin, "interactive", "i", false, "give it a pipe as stdin, which 'attach' writes to")
	flags.BoolVarP(&f.tty, "tty", "t", false, "run it on a terminal, which 'attach' connects to")
	flags.BoolVar(&f.merge, "merge-stderr", false, "have its stderr in stdout, in the order of its writes")
	flags.BoolVar(&f.script, "script", false, "PROG is a script for the user's login shell")
	flags.StringVar(&f.shell, "shell", "", "with --script: for the shell at this absolute `path` instead")
	jsonFlag(cmd, &f.json)
	a.completeProgram(cmd)
	return cmd
}

// start is the command run.
func (a *app) start(ctx context.Context, f *runFlags, args []string) error {
	spec, err := f.spec.spec(a)
	if err != nil {
		return err
	}
	spec.Args, spec.OpenStdin, spec.MergeStderr = args, f.stdin, f.merge
	if f.script {
		if len(args) > 1 {
			return usagef("--script takes one argument, the script")
		}
		spec.Args, spec.Script, spec.Shell = nil, args[0], f.shell
	} else if f.shell != "" {
		return usagef("--shell goes with --script")
	}
	if f.tty {
		spec.Terminal = &client.Terminal{Term: a.env("TERM")}
	}
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	p, err := c.Start(ctx, spec)
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(struct {
			ID     string `json:"id"`
			Handle string `json:"handle"`
			PID    int    `json:"pid"`
		}{p.ID(), p.Handle(), p.PID()})
	}
	_, err = fmt.Fprintln(a.stdout, a.name(p.ID()))
	return err
}
