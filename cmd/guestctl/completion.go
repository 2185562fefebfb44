package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// completionTimeout bounds how long the guest may hold up somebody who types.
const completionTimeout = time.Second

// mostCompletions is how many names of a directory are offered.
const mostCompletions = 2000

const completionLong = `Print the completion script of a shell. It completes commands and options, and
through the agent paths of the guest and ids of processes.

  bash   source <(guestctl completion bash)
  zsh    guestctl completion zsh > "${fpath[1]}/_guestctl"
  fish   guestctl completion fish > ~/.config/fish/completions/guestctl.fish`

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print the completion script of a shell",
		Long:      completionLong,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			generate := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return cmd.Root().GenBashCompletionV2(w, true) },
				"zsh":  cmd.Root().GenZshCompletion,
				"fish": func(w io.Writer) error { return cmd.Root().GenFishCompletion(w, true) },
			}
			write := generate[args[0]]
			if write == nil {
				return usagef("there is completion for bash, zsh and fish, not for %q", args[0])
			}
			return write(a.stdout)
		},
	}
}

// completer is what cobra calls to complete an argument.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// lifeState says which processes are offered.
type lifeState bool

const (
	running lifeState = true
	all     lifeState = false
)

// completeProcess offers ids for the first most arguments; -1: for all.
func (a *app) completeProcess(most int, state lifeState) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		a.ask(cmd, func(ctx context.Context, c *client.Client) {
			processes, err := c.Processes(ctx)
			if err != nil {
				return
			}
			for i := range processes {
				p := &processes[i]
				if (state == all || p.Running()) && strings.HasPrefix(p.ID, toComplete) && escape(p.ID) == p.ID {
					ids = append(ids, p.ID+"\t"+escape(commandLine(&p.Spec)))
				}
			}
		})
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeVariable offers names of the sandbox-wide environment.
func (a *app) completeVariable(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var names []string
	a.ask(cmd, func(ctx context.Context, c *client.Client) {
		env, err := c.Environment(ctx)
		if err != nil {
			return
		}
		for name := range env {
			if strings.HasPrefix(name, toComplete) && escape(name) == name {
				names = append(names, name)
			}
		}
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeGuest offers paths of the guest, with or without the colon.
func (a *app) completeGuest(user *string) completer {
	return func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return a.guestPaths(cmd, *user, toComplete)
	}
}

// completeBothSides offers paths of the guest behind a colon, and leaves others
// to the shell.
func (a *app) completeBothSides(user *string) completer {
	return func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if strings.HasPrefix(toComplete, ":") {
			return a.guestPaths(cmd, *user, toComplete)
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// completeProgram offers nothing for what is to be run: the names of this
// machine's files say nothing about the guest's.
func (a *app) completeProgram(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if strings.HasPrefix(toComplete, "/") {
			return a.guestPaths(cmd, "", toComplete)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// guestPaths offers what is in the directory that toComplete is in so far.
func (a *app) guestPaths(cmd *cobra.Command, user, toComplete string) ([]string, cobra.ShellCompDirective) {
	dir := toComplete[:strings.LastIndexByte(toComplete, '/')+1]
	if dir == "" && strings.HasPrefix(toComplete, ":") {
		dir = ":"
	}
	begin := toComplete[len(dir):]
	directive := cobra.ShellCompDirectiveNoFileComp
	var paths []string
	a.ask(cmd, func(ctx context.Context, c *client.Client) {
		where := guestPath(dir)
		if where == "" {
			where = "."
		}
		for info, err := range c.FilesAs(user, "").ReadDir(ctx, where, client.ReadDirOptions{NamesOnly: true}) {
			if err != nil || len(paths) == mostCompletions {
				return
			}
			name := info.Name()
			hidden := strings.HasPrefix(name, ".") && !strings.HasPrefix(begin, ".")
			if !strings.HasPrefix(name, begin) || hidden || escape(name) != name {
				continue
			}
			if info.IsDir() {
				name += "/"
				directive |= cobra.ShellCompDirectiveNoSpace
			}
			paths = append(paths, dir+name)
		}
	})
	return paths, directive
}

// ask asks the agent for a completion. Without one, or without a quick answer,
// nothing is offered: there is no place to say why.
func (a *app) ask(cmd *cobra.Command, question func(ctx context.Context, c *client.Client)) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	a.retry = 0
	c, err := a.connect(ctx)
	if err == nil {
		question(ctx, c)
	}
}
