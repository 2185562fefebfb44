package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// listFlags are the options of commands that list things with ids.
type listFlags struct {
	quiet bool
	json  bool
}

func (f *listFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only ids")
	jsonFlag(cmd, &f.json)
}

// table is how things of one kind are listed.
type table[T any] struct {
	heading string          // the names of the columns, with tabs between them
	row     func(*T) string // likewise, safe for a terminal
	id      func(*T) string // what -q prints; nil for a command without it
	json    func(*T) any    // what --json prints
}

// print prints things in the way that the options ask for.
func (t *table[T]) print(a *app, f *listFlags, things []T) error {
	if f.json {
		list := make([]any, len(things))
		for i := range things {
			list[i] = t.json(&things[i])
		}
		return a.printJSON(list)
	}
	out := a.page()
	if f.quiet {
		for i := range things {
			fmt.Fprintln(out, a.name(t.id(&things[i])))
		}
		return out.Flush()
	}
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, t.heading)
	for i := range things {
		fmt.Fprintln(columns, t.row(&things[i]))
	}
	if err := columns.Flush(); err != nil {
		return err
	}
	return out.Flush()
}

// orDash is a text that may be empty, safe for a terminal.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return escape(text)
}
