package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// catFlags are the options of cat.
type catFlags struct {
	user    string
	offset  int64
	length  int64
	limited bool // length was given
	follow  bool
}

const catLong = `Print files of the guest, one after the other.

With -f it goes on with what is appended later, until it is interrupted; a file
that becomes shorter or is replaced is printed from its start again. Devices and
FIFOs are read like files.`

func newCat(a *app) *cobra.Command {
	var f catFlags
	cmd := &cobra.Command{
		Use:   "cat [flags] PATH...",
		Short: "Print files",
		Long:  catLong,
		Example: `  guestctl cat /etc/os-release
  guestctl cat -f --offset -1000 /var/log/app.log
  guestctl cat --offset 4096 --length 512 :/dev/vda | xxd`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.limited = cmd.Flags().Changed("length")
			return a.cat(cmd.Context(), &f, args)
		},
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.Int64Var(&f.offset, "offset", 0, "begin at this `byte`; a negative one counts from the end")
	flags.Int64Var(&f.length, "length", 0, "print at most so many `bytes` (default: to the end)")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what is appended later")
	return cmd
}

func (a *app) cat(ctx context.Context, f *catFlags, operands []string) error {
	switch {
	case f.length < 0:
		return usagef("--length must not be negative")
	case f.follow && len(operands) > 1:
		return usagef("-f is for one file")
	case f.follow && f.limited:
		return usagef("-f goes on and on; --length does not go with it")
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	files := c.FilesAs(f.user, "")
	options := client.ReadOptions{Offset: f.offset, Length: f.length, Follow: f.follow, AllowSpecial: true}
	return a.each(operands, func(operand string) error {
		r, err := files.Open(ctx, guestPath(operand), options)
		if err != nil {
			return err
		}
		defer release(r)
		if f.limited && f.length == 0 {
			return nil // for the client 0 is no limit
		}
		_, err = r.WriteTo(a.stdout)
		return err
	})
}
