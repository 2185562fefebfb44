package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

func newKillSession(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "kill-session ID...",
		Short: "End SSH sessions",
		Long: `End SSH connections with all that they do. A grant that is good for more connections
stays: 'guestctl revoke' withdraws it, and ends its sessions too.`,
		Example:           "  guestctl kill-session $(guestctl sessions -q)",
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.killSession(cmd.Context(), args) },
		ValidArgsFunction: a.completeSession,
	}
}

func (a *app) killSession(ctx context.Context, ids []string) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return a.each(ids, func(id string) error { return c.KillSSHSession(ctx, id) })
}

// completeSession offers ids of sessions.
func (a *app) completeSession(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	a.ask(cmd, func(ctx context.Context, c *client.Client) {
		sessions, err := c.SSHSessions(ctx)
		if err != nil {
			return
		}
		for i := range sessions {
			s := &sessions[i]
			if strings.HasPrefix(s.ID, toComplete) && escape(s.ID) == s.ID {
				ids = append(ids, s.ID+"\t"+escape(s.User+": "+activityLine(s.Activity)))
			}
		}
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
