package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// psFlags are the options of ps.
type psFlags struct {
	listFlags
	all bool
}

func newPs(a *app) *cobra.Command {
	var f psFlags
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List processes",
		Long: `List the processes that the agent started and that still run; with -a also those
that ended, as long as their exit and output are kept.`,
		Example: `  guestctl ps
  guestctl ps -a --json | jq '.[] | select(.exit.code != 0)'
  guestctl kill $(guestctl ps -q)`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.ps(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "those that ended too")
	f.add(cmd)
	return cmd
}

func (a *app) ps(ctx context.Context, f *psFlags) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	processes, err := c.Processes(ctx)
	if err != nil {
		return err
	}
	var shown []client.ProcessInfo
	for _, p := range processes {
		if f.all || p.Running() {
			shown = append(shown, p)
		}
	}
	t := table[client.ProcessInfo]{
		heading: "ID\tPID\tUSER\tSTARTED\tSTATE\tCOMMAND",
		row:     processRow,
		id:      func(p *client.ProcessInfo) string { return p.ID },
		json:    func(p *client.ProcessInfo) any { return newJSONProcess(p) },
	}
	return t.print(a, &f.listFlags, shown)
}

func processRow(p *client.ProcessInfo) string {
	return fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s", escape(p.ID), p.PID, orDash(p.Spec.User),
		p.Start.Local().Format(time.DateTime), state(p), escape(commandLine(&p.Spec)))
}

// state is "running", or how it ended.
func state(p *client.ProcessInfo) string {
	if p.Running() {
		return "running"
	}
	return p.Exit.String()
}

// commandLine is a program with its arguments, for people: quoted where it has
// to be, and cut where it is long.
func commandLine(spec *client.Spec) string {
	line := spec.Script
	if len(spec.Args) > 0 {
		words := make([]string, len(spec.Args))
		for i, arg := range spec.Args {
			if words[i] = arg; arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$&|;<>()*?") {
				words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
			}
		}
		line = strings.Join(words, " ")
	} else if line == "" {
		line = "(login shell)"
	}
	const most = 80
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}
