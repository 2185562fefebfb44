package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

func newGrants(a *app) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "grants [flags]",
		Short: "List who may connect over SSH",
		Long: `List the grants that may still admit a connection or have one open. What they permit is
in --json; a credential itself is shown nowhere, and of a key only its fingerprint.`,
		Example: `  guestctl grants
  guestctl grants --json | jq '.[] | select(.expire_time == null)'
  guestctl revoke $(guestctl grants -q)`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.grants(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	return cmd
}

func (a *app) grants(ctx context.Context, f *listFlags) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	grants, err := c.Grants(ctx)
	if err != nil {
		return err
	}
	t := table[client.GrantInfo]{
		heading: "ID\tUSER\tUSED\tLIVE\tEXPIRES\tCREDENTIAL\tLABEL",
		row:     grantRow,
		id:      func(g *client.GrantInfo) string { return g.ID },
		json:    func(g *client.GrantInfo) any { return newJSONGrant(g) },
	}
	return t.print(a, f, grants)
}

func grantRow(g *client.GrantInfo) string {
	limit, expires, credential := "-", "never", "secret"
	if g.MaxConnections >= 0 {
		limit = strconv.Itoa(g.MaxConnections)
	}
	if !g.Expires.IsZero() {
		expires = g.Expires.Local().Format(time.DateTime)
	}
	if g.Fingerprint != "" {
		credential = g.Fingerprint
	}
	return fmt.Sprintf("%s\t%s\t%d/%s\t%d\t%s\t%s\t%s", escape(g.ID), escape(g.User), g.Used, limit, g.Live,
		expires, escape(credential), escape(g.Label))
}
