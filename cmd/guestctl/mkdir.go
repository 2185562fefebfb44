package main

import (
	"context"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"
)

// mkdirFlags are the options of mkdir.
type mkdirFlags struct {
	user    string
	parents bool
	mode    string
}

func newMkdir(a *app) *cobra.Command {
	var f mkdirFlags
	cmd := &cobra.Command{
		Use:   "mkdir [flags] PATH...",
		Short: "Make directories",
		Long: `Make directories in the guest. With -p, missing parents are made as well, and a
directory that exists already is not an error.`,
		Example: `  guestctl mkdir -p -m 0750 /srv/app/data
  guestctl mkdir -u ann :~/inbox`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.mkdir(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.parents, "parents", "p", false, "missing parents too")
	flags.StringVarP(&f.mode, "mode", "m", "0755", "permissions, in `octal`")
	return cmd
}

func (a *app) mkdir(ctx context.Context, f *mkdirFlags, operands []string) error {
	mode, err := parseMode(f.mode)
	if err != nil {
		return err
	}
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	create := c.FilesAs(f.user, "").Mkdir
	if f.parents {
		create = c.FilesAs(f.user, "").MkdirAll
	}
	return a.each(operands, func(operand string) error {
		return create(ctx, guestPath(operand), mode)
	})
}

// parseMode reads permissions as chmod has them in octal.
func parseMode(text string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(text, 8, 12)
	if err != nil {
		return 0, usagef("a mode is octal, as 0755, not %q", text)
	}
	mode := fs.FileMode(bits) & fs.ModePerm
	if bits&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode, nil
}
