package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// psFlags are the options of ps.
type psFlags struct {
	all   bool
	quiet bool
	json  bool
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
	flags := cmd.Flags()
	flags.BoolVarP(&f.all, "all", "a", false, "those that ended too")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only ids")
	jsonFlag(cmd, &f.json)
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
	if f.json {
		list := make([]jsonProcess, 0, len(shown))
		for i := range shown {
			list = append(list, newJSONProcess(&shown[i]))
		}
		return a.printJSON(list)
	}
	return a.printProcesses(f, shown)
}

func (a *app) printProcesses(f *psFlags, processes []client.ProcessInfo) error {
	out := a.page()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !f.quiet {
		fmt.Fprintln(table, "ID\tPID\tUSER\tSTARTED\tSTATE\tCOMMAND")
	}
	for i := range processes {
		p := &processes[i]
		if f.quiet {
			fmt.Fprintln(out, a.name(p.ID))
			continue
		}
		user := p.Spec.User
		if user == "" {
			user = "-"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", escape(p.ID), p.PID, escape(user),
			p.Start.Local().Format(time.DateTime), state(p), escape(commandLine(&p.Spec)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return out.Flush()
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
