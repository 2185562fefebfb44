package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// mvFlags are the options of mv.
type mvFlags struct {
	user      string
	noReplace bool
	noTarget  bool
}

const mvLong = `Move or rename files and directories in the guest. If DST is a directory they go
into it, under their own names. Between filesystems they are copied, with what
belongs to them, and removed when the copy is complete.`

func newMv(a *app) *cobra.Command {
	var f mvFlags
	cmd := &cobra.Command{
		Use:   "mv [flags] SRC... DST",
		Short: "Move or rename files",
		Long:  mvLong,
		Example: `  guestctl mv /srv/app /srv/app.old
  guestctl mv -n :/tmp/a :/tmp/b :/data/`,
		Args:              arguments(cobra.MinimumNArgs(2)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.mv(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.noReplace, "no-clobber", "n", false, "fail if there is such a file already, instead of replacing it")
	flags.BoolVarP(&f.noTarget, "no-target-directory", "T", false, "DST is the new name, also if it is a directory")
	return cmd
}

func (a *app) mv(ctx context.Context, f *mvFlags, operands []string) error {
	sources, to := operands[:len(operands)-1], guestPath(operands[len(operands)-1])
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	files := c.FilesAs(f.user, "")
	into := false
	if !f.noTarget {
		info, err := files.Stat(ctx, to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		into = err == nil && info.IsDir()
	}
	if !into && (len(sources) > 1 || strings.HasSuffix(to, "/") && !f.noTarget) {
		return fmt.Errorf("mv: %s is not a directory", to)
	}
	return a.each(sources, func(source string) error {
		from, target := guestPath(source), to
		if into {
			name := baseName(from)
			if name == "" {
				return usagef("mv: %q has no name of its own", source)
			}
			target = joinGuest(to, name)
		}
		return f.move(ctx, files, from, target)
	})
}

func (f *mvFlags) move(ctx context.Context, files *client.Files, from, to string) error {
	err := files.Rename(ctx, from, to, client.RenameOptions{NoReplace: f.noReplace})
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	options := client.CopyOptions{Recursive: true, NoFollow: true, NoReplace: f.noReplace}
	if _, err := files.Copy(ctx, from, to, options); err != nil {
		return err
	}
	_, err = files.RemoveAll(ctx, from)
	return err
}
