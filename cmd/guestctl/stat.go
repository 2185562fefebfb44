package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// statFlags are the options of stat.
type statFlags struct {
	user       string
	follow     bool
	filesystem bool
	json       bool
}

func newStat(a *app) *cobra.Command {
	var f statFlags
	cmd := &cobra.Command{
		Use:   "stat [flags] PATH...",
		Short: "Describe files",
		Long: `Describe files of the guest; of a symbolic link the link itself, unless -L is
given. With -f the filesystems that they are on. With --json it prints one array.`,
		Example: `  guestctl stat /etc/passwd
  guestctl stat -f --json :/srv | jq '.[].available_bytes'`,
		Args:              arguments(cobra.MinimumNArgs(1)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.stat(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeGuest(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.BoolVarP(&f.follow, "dereference", "L", false, "of a symbolic link, what it leads to")
	flags.BoolVarP(&f.filesystem, "file-system", "f", false, "the filesystem that holds it")
	jsonFlag(cmd, &f.json)
	return cmd
}

// jsonFilesystem is what stat -f --json prints an array of.
type jsonFilesystem struct {
	Path           string `json:"path"`
	RawPath        []byte `json:"raw_path,omitempty"`
	TotalBytes     uint64 `json:"total_bytes"`
	FreeBytes      uint64 `json:"free_bytes"`
	AvailableBytes uint64 `json:"available_bytes"`
	TotalInodes    uint64 `json:"total_inodes"`
	FreeInodes     uint64 `json:"free_inodes"`
	BlockBytes     uint64 `json:"block_bytes"`
	Type           uint64 `json:"type"`
	ReadOnly       bool   `json:"read_only"`
}

func (a *app) stat(ctx context.Context, f *statFlags, operands []string) error {
	c, ctx, cancel, err := a.quick(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	files, out := c.FilesAs(f.user, ""), a.page()
	array := jsonArray{w: out}
	err = a.each(operands, func(operand string) error {
		value, print, err := f.describe(ctx, files, guestPath(operand))
		if err != nil {
			return err
		}
		if f.json {
			return array.add(value)
		}
		print(out)
		return out.Flush()
	})
	if f.json && !isFinal(err) {
		err = errors.Join(err, array.end())
	}
	return err
}

// describe returns what to print of a path, for --json and for people.
func (f *statFlags) describe(ctx context.Context, files *client.Files, path string) (any, func(*bufio.Writer), error) {
	if f.filesystem {
		s, err := files.StatFilesystem(ctx, path)
		j := jsonFilesystem{
			path, raw(path), s.TotalBytes, s.FreeBytes, s.AvailableBytes,
			s.TotalInodes, s.FreeInodes, s.BlockBytes, s.Type, s.MountedReadOnly,
		}
		return j, func(w *bufio.Writer) { printFilesystem(w, path, s) }, err
	}
	get := files.Lstat
	if f.follow {
		get = files.Stat
	}
	info, err := get(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	return newJSONFile(info.Path(), info), func(w *bufio.Writer) { printFile(w, info) }, nil
}

func printFile(w *bufio.Writer, i *client.FileInfo) {
	name := escape(i.Path())
	if i.Type() == fs.ModeSymlink {
		name += " -> " + escape(i.Target())
	}
	fmt.Fprintf(w, "  Path: %s\n", name)
	fmt.Fprintf(w, "  Type: %s, inode %d, %d links\n", typeName(i.Mode()), i.Inode(), i.Links())
	fmt.Fprintf(w, "  Size: %d bytes, %d on its device\n", i.Size(), i.Allocated())
	fmt.Fprintf(w, "  Mode: %s %s\n", octalMode(i.Mode()), modeString(i.Mode()))
	fmt.Fprintf(w, " Owner: %s (%d), group %s (%d)\n", ownerName(i.Owner(), i.UID()), i.UID(), ownerName(i.Group(), i.GID()), i.GID())
	for _, line := range []struct {
		what string
		when time.Time
	}{{"Modify", i.ModTime()}, {"Access", i.AccessTime()}, {"Change", i.ChangeTime()}, {" Birth", i.BirthTime()}} {
		if !line.when.IsZero() {
			fmt.Fprintf(w, "%s: %s\n", line.what, line.when.Local().Format("2006-01-02 15:04:05.000000000 -0700"))
		}
	}
}

func printFilesystem(w *bufio.Writer, path string, s client.Filesystem) {
	access := "read and write"
	if s.MountedReadOnly {
		access = "read only"
	}
	fmt.Fprintf(w, "  Path: %s\n", escape(path))
	fmt.Fprintf(w, "  Type: %#x, %s, blocks of %d bytes\n", s.Type, access, s.BlockBytes)
	fmt.Fprintf(w, " Bytes: %s, %s free, %s for users\n", formatUnsigned(s.TotalBytes), formatUnsigned(s.FreeBytes), formatUnsigned(s.AvailableBytes))
	fmt.Fprintf(w, "Inodes: %d, %d free\n", s.TotalInodes, s.FreeInodes)
}

// formatUnsigned is formatSize of what a filesystem claims.
func formatUnsigned(n uint64) string { return formatSize(int64(min(n, 1<<62))) }
