package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

func newRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID...",
		Short: "Withdraw grants and end their sessions",
		Long: `Withdraw grants, and end every session that they let in, including those that are still
being authenticated: once it returns, nobody can come in by them any more.`,
		Example: `  guestctl revoke ci
  guestctl revoke $(guestctl grants -q)`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.revoke(cmd.Context(), args) },
		ValidArgsFunction: a.completeGrant,
	}
}

func (a *app) revoke(ctx context.Context, ids []string) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return a.each(ids, func(id string) error {
		_, err := c.Revoke(ctx, id)
		return err
	})
}

// completeGrant offers ids of grants.
func (a *app) completeGrant(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	a.ask(cmd, func(ctx context.Context, c *client.Client) {
		grants, err := c.Grants(ctx)
		if err != nil {
			return
		}
		for i := range grants {
			g := &grants[i]
			if strings.HasPrefix(g.ID, toComplete) && escape(g.ID) == g.ID {
				ids = append(ids, g.ID+"\t"+escape(strings.TrimSpace(g.User+" "+g.Label)))
			}
		}
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
