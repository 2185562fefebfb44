package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// execFlags are the options of exec and sh.
type execFlags struct {
	spec       specFlags
	stdin      bool
	tty        bool
	keep       bool
	merge      bool
	detachKeys string
}

func (f *execFlags) add(cmd *cobra.Command) {
	f.spec.add(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&f.stdin, "interactive", "i", false, "pass stdin on; without it the program's stdin is empty")
	flags.BoolVarP(&f.tty, "tty", "t", false, "run it on a terminal, of this one's size; wants a terminal as stdin")
	flags.BoolVar(&f.keep, "keep", false, "let it run on when guestctl or the connection is gone, instead of killing it")
	flags.BoolVar(&f.merge, "merge-stderr", false, "have its stderr in stdout, in the order of its writes")
	flags.StringVar(&f.detachKeys, "detach-keys", "", "with -it: `keys` that leave it running and end guestctl; implies --keep (default with --keep: "+defaultDetachKeys+")")
}

const execLong = `Run a program in the guest with its output here, and exit with its exit code.

PROG is looked up in the PATH of the process, and gets its arguments as they
are: no shell is involved ('guestctl sh' has one). Stdout and stderr stay apart.
With -i stdin is passed on to the program; with -t it gets a terminal, which
follows this one's size and receives every key, Ctrl-C too. INT, TERM, HUP, QUIT,
USR1 and USR2 sent to guestctl go to the program's process group.

The program is killed, with all that descends from it, if guestctl is killed or
the connection breaks. With --keep it runs on, and 'guestctl attach ID' returns
to it; if it has no stdin, guestctl itself resumes where it was as soon as the
agent can be reached again. Nothing is lost then, unless the program wrote more
than --buffer in the meantime, which is an error.

If the reader of guestctl's stdout goes away, the program gets SIGPIPE, as it
would from a pipe; one that ignores it is killed after a second, unless
--keep is given. The exit code is the program's: see 'guestctl help exit-codes'.`

const execExample = `  guestctl exec -- uname -a
  guestctl exec -it -u ann -w /srv -- bash -l
  guestctl exec -e DEBUG=1 --timeout 30s -- ./test --all
  tar c . | guestctl exec -i -- tar x -C /srv
  guestctl exec --memory 512M --pids 100 -u nobody -- ./untrusted`

func newExec(a *app) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:         "exec [flags] [--] PROG [ARG]...",
		Short:       "Run a program and stay with it",
		Long:        execLong,
		Example:     execExample,
		Args:        arguments(cobra.MinimumNArgs(1)),
		Annotations: map[string]string{passesExitCode: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(cmd.Context(), &f, client.Spec{Args: args})
		},
	}
	f.add(cmd)
	a.completeProgram(cmd)
	return cmd
}

const shLong = `Run a script in the user's login shell in the guest, as 'exec' runs a program.

SCRIPT is one argument, given to SHELL -c. Without a script the shell is an
interactive login shell, for which -it is wanted most often.`

const shExample = `  guestctl sh 'cd /srv && make 2>&1 | tail'
  guestctl sh -u ann 'echo $HOME'
  guestctl sh -it`

func newSh(a *app) *cobra.Command {
	var f execFlags
	var shell string
	cmd := &cobra.Command{
		Use:         "sh [flags] [SCRIPT]",
		Short:       "Run a script in the user's shell",
		Long:        shLong,
		Example:     shExample,
		Args:        arguments(cobra.MaximumNArgs(1)),
		Annotations: map[string]string{passesExitCode: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			program := client.Spec{Shell: shell, Login: len(args) == 0}
			if len(args) == 1 {
				program.Script = args[0]
				if program.Script == "" {
					return usagef("the script is empty; without one 'sh' is an interactive shell")
				}
			}
			return a.exec(cmd.Context(), &f, program)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&shell, "shell", "", "use the shell at this absolute `path` instead of the user's")
	return cmd
}

// exec runs a program and ends as it does.
func (a *app) exec(ctx context.Context, f *execFlags, program client.Spec) error {
	spec, err := f.spec.spec(a)
	if err != nil {
		return err
	}
	spec.Args, spec.Script, spec.Shell, spec.Login = program.Args, program.Script, program.Shell, program.Login
	spec.MergeStderr = f.merge
	keep := f.keep || f.detachKeys != ""
	keys, err := detachKeys(f.detachKeys, keep)
	if err != nil {
		return err
	}
	var terminal *terminal
	if f.tty {
		if terminal, err = openTerminal(a.stdin); err != nil {
			return err
		}
		spec.Terminal = &client.Terminal{Size: terminal.size(), Term: a.env("TERM")}
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	cmd := c.Command("")
	cmd.Spec = spec
	cmd.Stdout, cmd.Stderr = a.stdout, a.stderr
	if !keep {
		cmd.OnDisconnect = client.KillTree
	}
	e := &execution{app: a, cmd: cmd, terminal: terminal, keep: keep}
	if f.stdin {
		if terminal == nil {
			e.input = &input{r: a.stdin}
			cmd.Stdin = e.input
		} else {
			e.keys = newDetachReader(a.stdin, keys)
			cmd.Stdin = e.keys
		}
	}
	return e.run(ctx)
}
