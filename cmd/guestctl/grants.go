package main

import (
	"context"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// listFlags are the options of grants and sessions.
type listFlags struct {
	quiet bool
	json  bool
}

func (f *listFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only ids")
	jsonFlag(cmd, &f.json)
}

func newGrants(a *app) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "grants [flags]",
		Short: "List who may come in over SSH",
		Long: `List the grants that could still let somebody in or have somebody in. What they open is
in --json; the credential itself is shown nowhere, of a key only its fingerprint.`,
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
	if f.json {
		list := make([]jsonGrant, len(grants))
		for i := range grants {
			list[i] = newJSONGrant(&grants[i])
		}
		return a.printJSON(list)
	}
	return a.printGrants(f, grants)
}

func (a *app) printGrants(f *listFlags, grants []client.GrantInfo) error {
	out := a.page()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !f.quiet {
		fmt.Fprintln(table, "ID\tUSER\tUSED\tLIVE\tEXPIRES\tCREDENTIAL\tLABEL")
	}
	for i := range grants {
		g := &grants[i]
		if f.quiet {
			fmt.Fprintln(out, a.name(g.ID))
			continue
		}
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
		fmt.Fprintf(table, "%s\t%s\t%d/%s\t%d\t%s\t%s\t%s\n", escape(g.ID), escape(g.User), g.Used, limit, g.Live,
			expires, escape(credential), escape(g.Label))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return out.Flush()
}
