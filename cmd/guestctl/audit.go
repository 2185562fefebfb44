package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// auditFlags are the options of audit.
type auditFlags struct {
	terminal bool
	files    bool
	record   string
	count    int
	json     bool
}

const auditLong = `Print what happens on the SSH server, as it happens: who comes in, who is refused and
why, what they run, what they forward, and who goes; with --files also each file
operation of sftp, with --terminal also what terminals show. It ends after the
number of events that -n asks for, or when it is interrupted. What happened before
is not reported: 'guestctl sessions' lists who is in.

--record writes what the first terminal shows from now on into a file that
asciinema plays (asciicast version 2), that of the next terminal into one with
".2" before its extension, and so on. Files that exist are not overwritten.

"watching" on stderr says that nothing is missed from now on. If events come faster
than they are printed, the oldest are lost, and their number is reported.`

func newAudit(a *app) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [flags]",
		Short: "Print who connects over SSH, and what they do",
		Long:  auditLong,
		Example: `  guestctl audit
  guestctl audit --json --files >> audit.jsonl
  guestctl audit --record session.cast && asciinema play session.cast`,
		Args:              arguments(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.audit(cmd.Context(), &f) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.terminal, "terminal", false, "what terminals show too")
	flags.BoolVar(&f.files, "files", false, "file operations of sftp too")
	flags.StringVar(&f.record, "record", "", "record terminals into this `file`")
	flags.IntVarP(&f.count, "count", "n", 0, "end after this many `events`")
	jsonFlag(cmd, &f.json)
	return cmd
}

func (a *app) audit(ctx context.Context, f *auditFlags) error {
	if f.terminal && f.record != "" {
		return usagef("--terminal and --record exclude each other: what terminals show goes to one place")
	}
	recorder, err := newRecorder(f.record)
	if err != nil {
		return err
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	w, err := c.WatchSSH(ctx, client.SSHWatchOptions{Terminals: f.terminal, Files: f.files, Asciicast: f.record != ""})
	if err != nil {
		return err
	}
	defer release(w)
	a.warn("watching")
	return a.printEvents(f, recorder, w.Next)
}

// printEvents prints what next returns, or records it where it is a terminal's
// and --record was given. It ends after --count events, or with next's error.
func (a *app) printEvents(f *auditFlags, recorder *recorder, next func() (client.SSHEvent, error)) error {
	var missed uint64 // before events that were recorded; told with the next line
	for n := 0; f.count <= 0 || n < f.count; {
		event, err := next()
		if err != nil {
			return err
		}
		if event.Type == client.SSHTerminal && f.record != "" {
			if err := recorder.write(&event); err != nil {
				return err
			}
			missed += event.Missed
			continue
		}
		n++
		event.Missed += missed
		missed = 0
		if err := a.printAudit(f, &event); err != nil {
			return err
		}
		if event.Type == client.SSHClosed {
			recorder.closed(event.Session)
		}
	}
	return nil
}

func (a *app) printAudit(f *auditFlags, e *client.SSHEvent) error {
	if f.json {
		return a.printJSONLine(newJSONAudit(e))
	}
	if e.Missed > 0 {
		if _, err := fmt.Fprintf(a.stdout, "(%d events were lost here)\n", e.Missed); err != nil {
			return err
		}
	}
	// Escaped also for programs: a line is one event, whatever a client sends.
	_, err := fmt.Fprintf(a.stdout, "%s %-10s %s\n", e.Time.Local().Format(time.DateTime), e.Type, escape(auditLine(e)))
	return err
}

// auditLine is what there is to say of an event besides its time and type.
func auditLine(e *client.SSHEvent) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch {
	case e.Session != "" && e.Channel != "":
		add("%s/%s", e.Session, e.Channel)
	case e.Session != "":
		add("%s", e.Session)
	}
	switch e.Type {
	case client.SSHConnected, client.SSHRefused, client.SSHGranted, client.SSHRevoked:
		words = append(words, grantWords(e)...)
	case client.SSHClosed:
		add("received %s, sent %s", formatUnsigned(e.Received), formatUnsigned(e.Sent))
	}
	if e.TTY {
		add("[terminal]")
	}
	if e.Command != "" {
		add("%s", e.Command)
	}
	if e.Target != "" {
		add("%s", e.Target)
	}
	if e.Type == client.SSHFile && e.Bytes > 0 {
		add("(%s)", formatUnsigned(e.Bytes))
	}
	if t := e.Terminal; t != nil {
		if t.Size.Rows > 0 {
			add("%dx%d", t.Size.Columns, t.Size.Rows)
		}
		add("%s", t.Output)
	}
	line := strings.Join(words, " ")
	if e.Reason != "" {
		line += ": " + e.Reason
	}
	return line
}

// grantWords say whose credential it was.
func grantWords(e *client.SSHEvent) []string {
	var words []string
	for _, word := range []struct{ before, text, after string }{
		{"user ", e.User, ""}, {"grant ", e.Grant, ""}, {"(", e.Label, ")"}, {"from ", addressText(e.Client), ""},
		{"by ", e.Peer, ""},
	} {
		if word.text != "" {
			words = append(words, word.before+word.text+word.after)
		}
	}
	return words
}
