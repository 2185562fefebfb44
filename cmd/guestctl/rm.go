package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// rmFlags are the options of rm.
type rmFlags struct {
	user      string
	recursive bool
	force     bool
}

func newRm(a *app) *cobra.Command {
	var f rmFlags
	cmd := &cobra.Command{
		Use:   "rm [flags] PATH...",
		Short: "Remove files and trees",
		Long: `Remove files in the guest; with -r, directories and everything in them. A symbolic
link is removed itself, never what it leads to. "/" is refused.`,
		Example: `  guestctl rm /tmp/app.log
  guestctl rm -rf :/srv/app`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.rm(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "directories too, with everything in them")
	flags.BoolVarP(&f.force, "force", "f", false, "ignore what does not exist")
	return cmd
}

func (a *app) rm(ctx context.Context, f *rmFlags, operands []string) error {
	for _, operand := range operands {
		if p := guestPath(operand); path.Clean("/"+p) == "/" || baseName(p) == "" {
			return usagef("rm refuses %q: it names no file in a directory", operand)
		}
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	files := c.FilesAs(f.user, "")
	return a.each(operands, func(operand string) error {
		err := f.remove(ctx, files, guestPath(operand))
		if f.force && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func (f *rmFlags) remove(ctx context.Context, files *client.Files, path string) error {
	info, err := files.Lstat(ctx, path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return files.Remove(ctx, path)
	case !f.recursive:
		return fmt.Errorf("%s is a directory: give -r to remove it with all that is in it", path)
	}
	_, err = files.RemoveAll(ctx, path)
	return err
}
