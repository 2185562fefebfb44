package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// sshFlags are the options of ssh that are guestctl's own.
type sshFlags struct {
	address     string
	user        string
	ttl         lifetime
	connections count
	permit      []string
	label       string
}

const sshLong = `Run this machine's ssh into the guest, with a key that is made for it, is good for one
connection, and is gone afterwards. The guest's own key is pinned: nobody in between
can pose as the guest, and nothing has to be confirmed.

Options with one dash are ssh's own: -t, -L, -D, -A, -v, -o and all others; so is
what they mean. Only -l, the same as -u, says whom to log in as. What follows the
options, or "--", is the command, which ssh passes to the user's shell as one line.
Exit codes are ssh's: the command's own, or 255.

` + doorHelp + `

Your configuration of ssh is not read, so that nothing of it gets in the way; -F
~/.ssh/config has it read. The key is in a directory of its own below $TMPDIR until
ssh ends, and nothing is written elsewhere. To go on using a name, as for scp, rsync
and VS Code, see 'guestctl ssh-config'. Connections that ssh keeps in the background
(-f, ControlPersist) stay; 'guestctl sessions' lists them.`

func newSSH(a *app) *cobra.Command {
	var f sshFlags
	cmd := &cobra.Command{
		Use:   "ssh [flags] [ssh options] [--] [COMMAND [ARG]...]",
		Short: "Run ssh into the guest, without a key of one's own",
		Long:  sshLong,
		Example: `  guestctl ssh
  guestctl ssh -u ann -- make -C src test
  guestctl ssh -N -L 8080:localhost:80
  tar c . | guestctl ssh 'tar x -C /srv'`,
		DisableFlagParsing: true, // ssh's options are not ours to know
		Annotations:        map[string]string{passesExitCode: "yes"},
		RunE:               func(cmd *cobra.Command, args []string) error { return a.sshCommand(cmd, &f, args) },
		ValidArgsFunction:  cobra.NoFileCompletions,
	}
	doorFlag(cmd, &f.address)
	loginFlag(cmd, &f.user)
	lifeFlags(cmd, &f.ttl, &f.connections)
	cmd.Flags().StringArrayVar(&f.permit, "permit", nil, "permit these `things` and nothing else; see 'guestctl grant --help'")
	cmd.Flags().StringVar(&f.label, "label", "guestctl ssh", "`note` for listings and the audit")
	return cmd
}

// sshCommand parses the command line, and runs ssh.
func (a *app) sshCommand(cmd *cobra.Command, f *sshFlags, args []string) error {
	line, err := splitSSHLine(cmd.Flags(), args)
	if err != nil {
		return err
	}
	if err := cmd.Flags().Parse(line.own); err != nil {
		return usageError{err}
	}
	if help, err := cmd.Flags().GetBool("help"); err == nil && help {
		return cmd.Help()
	}
	return a.ssh(cmd.Context(), f, line)
}

// ssh grants a key, runs ssh with it, and leaves nothing behind.
func (a *app) ssh(ctx context.Context, f *sshFlags, line *sshLine) (err error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("this command runs the ssh of this machine: %w", err)
	}
	permissions, err := parsePermissions(f.permit)
	if err != nil {
		return err
	}
	if err := checkLogin(f.user); err != nil {
		return err
	}
	door, err := a.door(f.address)
	if err != nil {
		return err
	}
	var granted string
	defer func() {
		if granted != "" {
			a.takeBack(ctx, granted)
		}
	}()
	dir, err := os.MkdirTemp("", "guestctl-ssh-") // for its owner alone
	if err != nil {
		return err
	}
	// Before the grant is taken back: that may have to wait for the agent, and
	// whoever is tired of it must not leave the key.
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := filesIn(dir, door.name)
	options, err := door.options(files, true)
	if err != nil {
		return err
	}
	key, err := newKeyPair("guestctl ssh")
	if err != nil {
		return err
	}
	if err := files.writeKey(key); err != nil {
		return err
	}
	info, err := a.grantKey(ctx, client.Grant{
		Key: key.public, User: f.user, TTL: time.Duration(f.ttl), MaxConnections: int(f.connections),
		Permissions: permissions, Label: f.label,
	})
	if err != nil {
		return err
	}
	granted = info.ID
	if err := files.pin(info.HostKey); err != nil {
		return err
	}
	user, err := loginName(f.user, info.User)
	if err != nil {
		return err
	}
	return a.runSSH(ctx, exec.Command(program, sshArguments(line, options, user, door.name)...))
}

// grantKey grants a key that was just made.
func (a *app) grantKey(ctx context.Context, g client.Grant) (client.GrantInfo, error) {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return client.GrantInfo{}, err
	}
	return c.Grant(ctx, g)
}

// takeBackTimeout bounds the wait for an agent that does not answer any more.
const takeBackTimeout = 5 * time.Second

// takeBack revokes a grant whose key is gone, if nobody is in by it: what ssh
// left in the background is to stay.
func (a *app) takeBack(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), takeBackTimeout)
	defer stop()
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return
	}
	// An agent that does not answer any more has nobody in, or ends the grant in
	// its time; without the key it is good for nothing.
	grants, _ := c.Grants(ctx)
	for i := range grants {
		if grants[i].ID == id && grants[i].Live == 0 {
			_, _ = c.Revoke(ctx, id)
		}
	}
}

// checkLogin refuses the name of a user that ssh takes for something else, on its
// command line or in its configuration, of whichever version.
func checkLogin(asked string) error {
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'\\#%`;&<>|(){}", r) }
	if strings.HasPrefix(asked, "-") || strings.ContainsFunc(asked, odd) {
		return usagef("the user %q cannot be passed to ssh", asked)
	}
	return nil
}

// loginName is the name to log in with: the one that was asked for, else the one
// that the guest told, which must not be an option, or anything else, to ssh.
func loginName(asked, told string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	for i, r := range told {
		if !isAlphanumeric(r) && r != '_' && (i == 0 || !strings.ContainsRune(".-$", r)) {
			return "", fmt.Errorf("the guest says its user is %q; name one with -u", told)
		}
	}
	if told == "" {
		return "", errors.New("the guest does not say who its user is; name one with -u")
	}
	return told, nil
}

// sshArguments is ssh's command line. For ssh the first value of an option
// counts, so that nothing changes what is ours.
func sshArguments(line *sshLine, options []sshOption, user, host string) []string {
	var args []string
	if !line.config {
		args = append(args, "-F", "none")
	}
	for _, option := range options {
		args = append(args, "-o", option.name+"="+option.value)
	}
	if !line.forward {
		args = append(args, "-o", "IdentityAgent=none")
	}
	args = append(args, "-l", user)
	args = append(args, line.ssh...)
	args = append(args, "-o", "SendEnv=LANG LC_*", host)
	if len(line.command) > 0 {
		args = append(append(args, "--"), line.command...)
	}
	return args
}

// runSSH runs ssh, to which the terminal and its signals belong, to its end.
// What is sent to guestctl alone is passed on.
func (a *app) runSSH(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout.w, a.stderr
	signals := make(chan os.Signal, 16)
	for s := range forwarded() {
		signal.Notify(signals, s)
	}
	defer signal.Stop(signals)
	a.interruption.handOver()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var relay sync.WaitGroup
	relay.Go(func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // one that has ended needs none
			case <-ended:
				return
			}
		}
	})
	err := cmd.Wait()
	close(ended)
	relay.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitCode(exitSignal + int(status.Signal()))
	}
	return exitCode(exit.ExitCode())
}
