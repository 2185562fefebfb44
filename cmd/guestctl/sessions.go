package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

func newSessions(a *app) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "sessions [flags]",
		Short: "List the open SSH sessions",
		Long: `List the open SSH connections, each with all that it does: shells, commands, transfers
and forwards. RECEIVED is what came from the client.`,
		Example: `  guestctl sessions
  guestctl kill-session $(guestctl sessions -q)`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.sessions(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	return cmd
}

func (a *app) sessions(ctx context.Context, f *listFlags) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	sessions, err := c.SSHSessions(ctx)
	if err != nil {
		return err
	}
	t := table[client.SSHSession]{
		heading: "ID\tUSER\tCLIENT\tSINCE\tRECEIVED\tSENT\tGRANT\tACTIVITY",
		row:     sessionRow,
		id:      func(s *client.SSHSession) string { return s.ID },
		json:    func(s *client.SSHSession) any { return newJSONSession(s) },
	}
	return t.print(a, f, sessions)
}

func sessionRow(s *client.SSHSession) string {
	from := addressText(s.Client)
	if from == "" {
		from = s.Peer
	}
	grant := s.Grant
	if s.Label != "" {
		grant += " (" + s.Label + ")"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", escape(s.ID), escape(s.User), escape(from),
		s.Since.Local().Format(time.DateTime), formatUnsigned(s.Received), formatUnsigned(s.Sent),
		escape(grant), escape(activityLine(s.Activity)))
}

// activityLine is what a session does, cut where it is long.
func activityLine(activity []string) string {
	line := strings.Join(activity, ", ")
	const most = 80
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}
