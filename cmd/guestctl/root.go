package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Groups of commands in the help text.
const (
	groupProcesses = "processes"
	groupFiles     = "files"
	groupNetwork   = "network"
	groupAccess    = "access"
	groupAgent     = "agent"
)

const rootLong = `guestctl runs programs in a microVM and moves files, through the guestd agent
inside it. The guest needs no network, no shell and no key.

It talks to one agent, at the address in --agent or GUESTD_AGENT:

  vsock:CID:PORT      a machine of this host's kernel (QEMU with vhost-vsock)
  hybrid:PATH:PORT    the vsock socket of Firecracker, Cloud Hypervisor or
                      vhost-device-vsock
  unix:PATH           a unix socket, for development

Where a path may be on either side, one in the guest is written ':/path'. Exit
codes are the program's own; 'guestctl help exit-codes' has the rest.`

const rootExample = `  export GUESTD_AGENT=hybrid:/run/vm1.sock:1024
  guestctl exec -- uname -a
  guestctl exec -it -u ann -- bash
  guestctl cp ./app :/srv/app
  guestctl run --id web -- python3 -m http.server 8000
  guestctl logs -f web
  guestctl forward 8000`

// newRoot makes the command tree of one invocation.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "guestctl",
		Short:         "Run programs and move files in a guest",
		Long:          rootLong,
		Example:       rootExample,
		Args:          arguments(unknownCommand),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: groupProcesses, Title: "Processes:"},
		&cobra.Group{ID: groupFiles, Title: "Files:"},
		&cobra.Group{ID: groupNetwork, Title: "Network:"},
		&cobra.Group{ID: groupAccess, Title: "SSH access:"},
		&cobra.Group{ID: groupAgent, Title: "Agent:"},
	)
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "agent", "", "`address` of the agent (default $"+agentVariable+")")
	flags.DurationVar(&a.connectTimeout, "connect-timeout", 10*time.Second, "how long one attempt to connect may take")
	flags.DurationVar(&a.retry, "retry", 0, "wait up to `time` for an agent that does not answer yet")

	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupProcesses, newExec(a), newSh(a), newRun(a), newAttach(a), newLogs(a), newWait(a), newKill(a), newPs(a))
	add(groupFiles, newCp(a), newLs(a), newCat(a), newRm(a), newMkdir(a), newMv(a), newStat(a), newWatch(a))
	add(groupNetwork, newForward(a), newPorts(a))
	add(groupAccess, newSSH(a), newSSHConfig(a), newGrant(a), newRevoke(a), newGrants(a), newSessions(a), newKillSession(a), newAudit(a))
	root.SetHelpCommandGroupID(groupAgent)
	add(groupAgent, newEnv(a), newInfo(a), newVersion(a), newCompletion(a))
	root.AddCommand(newGenMan(a), newSSHProxy(a))
	root.AddCommand(topics()...)
	return root
}

// unknownCommand is for the root, whose arguments are names that no command
// has.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return usagef("unknown command %q; did you mean %s?", args[0], strings.Join(similar, " or "))
	}
	return usagef("unknown command %q", args[0])
}
