package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

const envLong = `Show or change the sandbox-wide environment: variables for every process that is
started later, whose own variables override them. Running processes keep theirs.`

func newEnv(a *app) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Show or change the environment of new processes",
		Long:  envLong,
		Example: `  guestctl env
  guestctl env set LANG=C.UTF-8 HTTP_PROXY=http://10.0.0.1:3128
  guestctl env get LANG
  guestctl env unset HTTP_PROXY`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.envGet(cmd.Context(), json, nil) },
	}
	jsonFlag(cmd, &json)
	cmd.AddCommand(newEnvGet(a), newEnvSet(a), newEnvUnset(a))
	return cmd
}

func newEnvGet(a *app) *cobra.Command {
	var json bool
	cmd := &cobra.Command{
		Use:   "get [NAME]...",
		Short: "Show variables, or the value of one",
		Long: `Show the variables that are named, or all, as NAME=VALUE; of a single one the value
alone. One that is not set is an error.`,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.envGet(cmd.Context(), json, args) },
		ValidArgsFunction: a.completeVariable,
	}
	jsonFlag(cmd, &json)
	return cmd
}

func newEnvSet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME=VALUE...",
		Short: "Set variables, in one step",
		Args:  arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := client.EnvironmentChange{Set: make(map[string]string)}
			for _, arg := range args {
				name, value, ok := strings.Cut(arg, "=")
				if !ok || name == "" || !utf8.ValidString(arg) {
					return usagef("a variable is NAME=VALUE, in UTF-8, not %q", arg)
				}
				change.Set[name] = value
			}
			return a.envChange(cmd.Context(), change)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

func newEnvUnset(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "unset NAME...",
		Short: "Remove variables, in one step",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the variables to remove, or give --all")
			}
			return a.envChange(cmd.Context(), client.EnvironmentChange{Clear: all, Unset: args})
		},
		ValidArgsFunction: a.completeVariable,
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove every variable")
	return cmd
}

func (a *app) envChange(ctx context.Context, change client.EnvironmentChange) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	_, err = c.UpdateEnvironment(ctx, change)
	return err
}

func (a *app) envGet(ctx context.Context, json bool, names []string) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	env, err := c.Environment(ctx)
	if err != nil {
		return err
	}
	shown := env
	if len(names) > 0 {
		shown = make(map[string]string)
		for _, name := range names {
			value, found := env[name]
			if !found {
				return fmt.Errorf("env: %s is not set", name)
			}
			shown[name] = value
		}
	}
	if json {
		return a.printJSON(shown)
	}
	if len(names) == 1 {
		_, err := fmt.Fprintln(a.stdout, a.name(shown[names[0]]))
		return err
	}
	out := a.page()
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		fmt.Fprintln(out, a.name(name+"="+shown[name]))
	}
	return out.Flush()
}
