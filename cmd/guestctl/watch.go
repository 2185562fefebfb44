package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// watchFlags are the options of watch.
type watchFlags struct {
	user      string
	recursive bool
	exclude   []string
	count     int
	json      bool
}

const watchLong = `Print changes of a file or directory in the guest as they happen: an event and a
path, relative to the watched one. It ends when PATH itself is gone, after the
number of events that -n asks for, or when it is interrupted. Events are created,
modified, closed (after writing), attributes, removed, renamed, and overflow:
then changes were lost, and everything has to be looked at again.

"watching" on stderr says that nothing is missed from now on.`

func newWatch(a *app) *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch [flags] PATH",
		Short: "Print changes as they happen",
		Long:  watchLong,
		Example: `  guestctl watch -r --exclude .git /srv/app
  guestctl watch -n 1 :/run/app.pid && echo changed`,
		Args:              arguments(cobra.ExactArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.watch(cmd.Context(), &f, args[0]) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "everything below too, also directories that come later")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "leave out what matches this `pattern`")
	flags.IntVarP(&f.count, "count", "n", 0, "end after this many `events`")
	jsonFlag(cmd, &f.json)
	return cmd
}

// jsonEvent is a line of watch --json.
type jsonEvent struct {
	Event      string `json:"event"`
	Path       string `json:"path"`
	RawPath    []byte `json:"raw_path,omitempty"`
	OldPath    string `json:"old_path,omitempty"`
	RawOldPath []byte `json:"raw_old_path,omitempty"`
	Directory  bool   `json:"directory"`
}

func (a *app) watch(ctx context.Context, f *watchFlags, operand string) error {
	if f.count < 0 {
		return usagef("--count must not be negative")
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	w, err := c.FilesAs(f.user, "").Watch(ctx, guestPath(operand), client.WatchOptions{Recursive: f.recursive, Exclude: f.exclude})
	if err != nil {
		return err
	}
	defer release(w)
	directories := "directories"
	if w.Directories() == 1 {
		directories = "directory"
	}
	a.warn("watching %d %s", w.Directories(), directories)
	for n := 0; f.count == 0 || n < f.count; n++ {
		event, err := w.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.printEvent(f, event); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEvent(f *watchFlags, e client.WatchEvent) error {
	if f.json {
		return a.printJSONLine(jsonEvent{e.Type.String(), e.Path, raw(e.Path), e.OldPath, raw(e.OldPath), e.IsDir})
	}
	line := fmt.Sprintf("%-10s %s", e.Type, a.name(e.Path))
	if e.OldPath != "" {
		line += " (was " + a.name(e.OldPath) + ")"
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}
