package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// lsFlags are the options of ls.
type lsFlags struct {
	user      string
	long      bool
	all       bool
	recursive bool
	directory bool
	json      bool
}

const lsLong = `List directories of the guest, sorted by name; of a file or a link, itself. Without
a PATH it lists the user's home directory.

With -R it lists all that is below, as paths, and never through a link. With
--json it prints one array, in the directory's own order.`

func newLs(a *app) *cobra.Command {
	var f lsFlags
	cmd := &cobra.Command{
		Use:   "ls [flags] [PATH]...",
		Short: "List directories",
		Long:  lsLong,
		Example: `  guestctl ls -la /srv
  guestctl ls -R --json :/etc | jq -r '.[] | select(.mode == "4755").path'`,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.ls(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.long, "long", "l", false, "with mode, links, owner, group, size and time")
	flags.BoolVarP(&f.all, "all", "a", false, "names that begin with a dot too")
	flags.BoolVarP(&f.recursive, "recursive", "R", false, "all that is below")
	flags.BoolVarP(&f.directory, "directory", "d", false, "a directory itself, not what is in it")
	jsonFlag(cmd, &f.json)
	return cmd
}

// listing is one run of ls.
type listing struct {
	app   *app
	flags *lsFlags
	files *client.Files
	page  *bufio.Writer
	array jsonArray
	now   time.Time
}

// listed is a file with the path that it is listed under.
type listed struct {
	path string // from the operand on
	name string // to print
	info *client.FileInfo
}

func (a *app) ls(ctx context.Context, f *lsFlags, operands []string) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if len(operands) == 0 {
		operands = []string{"."}
	}
	l := &listing{app: a, flags: f, files: c.FilesAs(f.user, ""), page: a.page(), now: time.Now()}
	l.array.w = l.page
	first := true
	err = a.each(operands, func(operand string) error {
		title := ""
		if len(operands) > 1 && !f.recursive && !f.directory {
			title = operand + ":"
			if !first {
				title = "\n" + title
			}
		}
		first = false
		// What was listed comes before what went wrong with the next.
		return errors.Join(l.operand(ctx, guestPath(operand), title), l.flush())
	})
	if f.json && !isFinal(err) {
		err = errors.Join(err, l.array.end())
	}
	return err
}

func (l *listing) flush() error {
	if l.flags.json {
		return nil
	}
	return l.page.Flush()
}

func (l *listing) operand(ctx context.Context, path, title string) error {
	if path == "" {
		path = "."
	}
	info, err := l.files.Lstat(ctx, path)
	if err == nil && info.Type() == fs.ModeSymlink && strings.HasSuffix(path, "/") {
		info, err = l.files.Stat(ctx, path)
	}
	switch {
	case err != nil:
		return err
	case !info.IsDir() || l.flags.directory:
		return l.print([]listed{{path, path, info}})
	case l.flags.recursive:
		return l.walk(ctx, path)
	}
	if title != "" && !l.flags.json {
		fmt.Fprintln(l.page, l.app.name(title))
	}
	return l.readDir(ctx, path)
}

func (l *listing) hidden(name string) bool {
	return !l.flags.all && strings.HasPrefix(name, ".")
}

func (l *listing) readDir(ctx context.Context, path string) error {
	namesOnly := !l.flags.long && !l.flags.json
	var entries []listed
	for info, err := range l.files.ReadDir(ctx, path, client.ReadDirOptions{NamesOnly: namesOnly}) {
		if err != nil {
			return err
		}
		if l.hidden(info.Name()) {
			continue
		}
		entry := listed{joinGuest(path, info.Name()), info.Name(), info}
		if l.flags.json {
			if err := l.array.add(newJSONFile(entry.path, info)); err != nil {
				return err
			}
			continue
		}
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return l.print(entries)
}

// walk lists a tree as it comes.
func (l *listing) walk(ctx context.Context, path string) error {
	options := client.WalkOptions{NamesOnly: !l.flags.long && !l.flags.json}
	if !l.flags.all {
		options.Exclude = []string{".?*"}
	}
	unread := false
	for info, err := range l.files.Walk(ctx, path, options) {
		if _, ok := errors.AsType[*client.WalkError](err); ok {
			l.app.complain(fmt.Errorf("ls %s: %w", path, err))
			unread = true
			continue
		}
		if err != nil {
			return err
		}
		below := joinGuest(path, info.Path())
		if info.Path() == "." {
			below = path
		}
		if err := l.print([]listed{{below, below, info}}); err != nil {
			return err
		}
	}
	if unread {
		return errReported
	}
	return nil
}

func (l *listing) print(entries []listed) error {
	if l.flags.json {
		for _, entry := range entries {
			if err := l.array.add(newJSONFile(entry.path, entry.info)); err != nil {
				return err
			}
		}
		return nil
	}
	if !l.flags.long {
		for _, entry := range entries {
			fmt.Fprintln(l.page, l.app.name(entry.name))
		}
		return nil
	}
	var b bytes.Buffer
	table := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.AlignRight)
	for _, entry := range entries {
		i := entry.info
		// The name is behind the last tab, where the table changes nothing.
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%d\t%s\t %s%s\n", modeString(i.Mode()), i.Links(),
			ownerName(i.Owner(), i.UID()), ownerName(i.Group(), i.GID()), i.Size(), l.date(i.ModTime()),
			l.longName(entry.name), l.target(i))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range bytes.Lines(b.Bytes()) {
		// The first column has its space in front, too.
		if _, err := l.page.Write(bytes.TrimPrefix(line, []byte(" "))); err != nil {
			return err
		}
	}
	return nil
}

// longName is a name in a table, whose cells end at these characters.
func (l *listing) longName(name string) string {
	if strings.ContainsAny(name, "\t\n\v\f") {
		return escape(name)
	}
	return l.app.name(name)
}

func (l *listing) target(i *client.FileInfo) string {
	if i.Type() != fs.ModeSymlink {
		return ""
	}
	return " -> " + l.longName(i.Target())
}

// date is as ls has it: with the time if it is of the last half year.
func (l *listing) date(t time.Time) string {
	const halfYear = 182 * 24 * time.Hour
	t = t.Local()
	if age := l.now.Sub(t); age < halfYear && age > -time.Hour {
		return t.Format("Jan _2 15:04")
	}
	return t.Format("Jan _2  2006")
}
