package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// killFlags are the options of kill.
type killFlags struct {
	signal  string
	tree    bool
	process bool
}

const killLong = `Send a signal to processes in the guest: to the process group of each; with --tree
to all that descends from it, also what has left its session; with --process to
it alone. A signal is a name, with or without SIG, or one of Linux's numbers.`

func newKill(a *app) *cobra.Command {
	var f killFlags
	cmd := &cobra.Command{
		Use:   "kill [flags] ID...",
		Short: "Send a signal to a process, its group or its tree",
		Long:  killLong,
		Example: `  guestctl kill web
  guestctl kill -s KILL --tree web worker
  guestctl kill -s HUP --process web`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.kill(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeProcess(-1, running),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.signal, "signal", "s", "TERM", "the `signal`")
	flags.BoolVar(&f.tree, "tree", false, "to everything that descends from it")
	flags.BoolVar(&f.process, "process", false, "to the process alone")
	_ = cmd.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions(signalNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) kill(ctx context.Context, f *killFlags, ids []string) error {
	scope := client.ScopeGroup
	switch {
	case f.tree && f.process:
		return usagef("--tree and --process exclude each other")
	case f.tree:
		scope = client.ScopeTree
	case f.process:
		scope = client.ScopeProcess
	}
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	signal := client.Signal(strings.ToUpper(f.signal))
	return a.each(ids, func(id string) error { return c.Process(id).Signal(ctx, signal, scope) })
}

// signalNames are Linux's, for completion.
func signalNames() []string {
	return strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM " +
		"STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")
}
