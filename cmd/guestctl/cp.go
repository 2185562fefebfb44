package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// cpFlags are the options of cp.
type cpFlags struct {
	user       string
	exclude    []string
	owners     string
	noTarget   bool
	noXattrs   bool
	keep       bool
	noResume   bool
	noProgress bool
	quiet      bool
	json       bool
	recursive  bool // for habit: trees are always copied
}

const cpLong = `Copy files and trees between this machine and the guest, or within the guest.

A path of the guest begins with a colon, ":/srv/app"; "-" is standard input or
output. Where a copy goes is decided as by cp and rsync:

  DST is a directory, or ends in "/"    into it, under the source's own name;
                                        it is made if it is missing
  DST is anything else                  DST is the copy's own path
  SRC ends in "/" or "/.", or is "."    what is in the directory SRC is merged
                                        into the directory DST
  -T                                    DST is always the copy's own path

Several sources need a directory as DST. Missing parents are made. Symbolic
links that are named as SRC are followed, those within a tree stay links. Devices
and FIFOs of this machine, also <(...) and >(...) of a shell, are read and written.

Modes, times to the nanosecond, holes, and in trees links and extended
attributes are kept; files belong to the user who writes them, unless --owners
says otherwise. A file takes its place in one step, when it is complete and its
checksum is right; the same command resumes a file whose copy was interrupted. The
files of a tree are replaced one by one.

What is in a guest is not trusted: a copy never writes outside DST.`

const cpExample = `  guestctl cp ./app :/srv/app            # /srv/app, or /srv/app/app if that is there
  guestctl cp ./app/ :/srv/app           # always what is in ./app, merged into /srv/app
  guestctl cp a.txt b.txt :/tmp/new/     # into /tmp/new, which is made
  guestctl cp :/var/log/app.log -        # to stdout
  tar c . | guestctl cp - :/backup.tar   # from stdin
  guestctl cp -u ann --exclude node_modules . :~/project
  guestctl cp :/etc/hosts :/etc/hosts.old`

func newCp(a *app) *cobra.Command {
	var f cpFlags
	cmd := &cobra.Command{
		Use:               "cp [flags] SRC... DST",
		Short:             "Copy files and trees, both ways",
		Long:              cpLong,
		Example:           cpExample,
		Args:              arguments(cobra.MinimumNArgs(2)),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeBothSides(&f.user),
	}
	flags := cmd.Flags()
	userFlag(cmd, &f.user)
	flags.StringArrayVar(&f.exclude, "exclude", nil, "leave out what matches this `pattern` (* ? [a-z] {a,b} **; without a slash: any name in the tree)")
	flags.StringVar(&f.owners, "owners", "user", "owners on the other side: `user` (who writes), numeric or names (both want root's rights)")
	flags.BoolVarP(&f.noTarget, "no-target-directory", "T", false, "DST is the copy's own path, also if it is a directory")
	flags.BoolVarP(&f.keep, "no-clobber", "n", false, "leave existing files as they are")
	flags.BoolVar(&f.noXattrs, "no-xattrs", false, "leave extended attributes out")
	flags.BoolVar(&f.noResume, "no-resume", false, "start over, and leave nothing behind if interrupted")
	flags.BoolVar(&f.noProgress, "no-progress", false, "show no progress on a terminal")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but errors")
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "nothing: trees are always copied")
	_ = flags.MarkHidden("recursive")
	jsonFlag(cmd, &f.json)
	_ = cmd.RegisterFlagCompletionFunc("owners", cobra.FixedCompletions([]string{"user", "numeric", "names"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// copying is one run of cp.
type copying struct {
	app    *app
	flags  *cpFlags
	client *client.Client
	files  *client.Files
	owners client.Owners
	lines  bool // --json prints lines
}

// jsonCopy is what cp --json prints.
type jsonCopy struct {
	Source      string     `json:"source"`
	Destination string     `json:"destination"`
	Files       int64      `json:"files"`
	Directories int64      `json:"directories"`
	Symlinks    int64      `json:"symlinks"`
	HardLinks   int64      `json:"hard_links"`
	Special     int64      `json:"special"`
	Bytes       int64      `json:"bytes"`
	Skipped     int64      `json:"skipped"`
	Skips       []jsonSkip `json:"skips,omitempty"`
	Duration    float64    `json:"duration"`
}

type jsonSkip struct {
	Path   string `json:"path"`
	Raw    []byte `json:"raw_path,omitempty"`
	Reason string `json:"reason"`
}

func (a *app) cp(ctx context.Context, f *cpFlags, args []string) error {
	var operands []operand
	for _, arg := range args {
		operands = append(operands, parseOperand(arg))
	}
	sources, to := operands[:len(operands)-1], operands[len(operands)-1]
	owners, known := map[string]client.Owners{
		"user": client.OwnersUser, "numeric": client.OwnersNumeric, "names": client.OwnersNames,
	}[f.owners]
	if !known {
		return usagef("--owners is user, numeric or names, not %q", f.owners)
	}
	if err := checkOperands(sources, to, f); err != nil {
		return err
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	run := &copying{
		app: a, flags: f, client: c, files: c.FilesAs(f.user, ""), owners: owners,
		lines: len(sources) > 1,
	}
	into, err := run.isInto(ctx, sources, to)
	if err != nil {
		return err
	}
	byName := make(map[string]operand, len(sources))
	names := make([]string, len(sources))
	for i, source := range sources {
		names[i] = source.text
		byName[source.text] = source
	}
	return a.each(names, func(name string) error { return run.one(ctx, byName[name], to, into) })
}

// one copies one source.
func (c *copying) one(ctx context.Context, from, to operand, into bool) error {
	if into && !from.contents() && from.side != stdStream {
		to.path = to.join(baseName(from.path))
	}
	bar := &progress{}
	if to.side != stdStream || !isTerminal(c.app.stdout.w) {
		bar = c.app.newProgress(c.flags, from.text)
	}
	began := time.Now()
	transfer, err := c.transfer(ctx, from, to, bar)
	bar.finish()
	if c.flags.keep && errors.Is(err, fs.ErrExist) && c.isFile(ctx, from) {
		// As Upload and Download tell it.
		transfer, err = client.Transfer{Skipped: 1, Skips: []client.Skip{{Path: to.path, Reason: "exists"}}}, nil
	}
	if err != nil {
		return c.explain(ctx, from, to, err)
	}
	return c.done(from, to, transfer, time.Since(began))
}

func (c *copying) transfer(ctx context.Context, from, to operand, bar *progress) (client.Transfer, error) {
	switch {
	case from.side == guestSide && to.side == guestSide:
		return c.within(ctx, from, to)
	case from.side == stdStream:
		return c.fromStream(ctx, c.app.stdin, to, bar)
	case to.side == stdStream:
		return c.toStdout(ctx, from, bar)
	case from.side == localSide && isSpecial(from.path):
		return c.fromSpecial(ctx, from, to, bar)
	case to.side == localSide && isSpecial(to.path) && !c.flags.keep:
		return c.toSpecial(ctx, from, to, bar)
	case from.side == localSide:
		return c.upload(ctx, from, to, bar)
	}
	if err := c.makeParents(ctx, from, to); err != nil {
		return client.Transfer{}, err
	}
	return c.client.Download(ctx, from.path, to.path, client.DownloadOptions{
		User: c.flags.user, Owners: c.owners, Exclude: c.flags.exclude, NoXattrs: c.flags.noXattrs,
		KeepExisting: c.flags.keep, Resume: !c.flags.noResume, Progress: bar.function(),
	})
}

// isFile reports whether a source that is not on this side is no directory.
func (c *copying) isFile(ctx context.Context, from operand) bool {
	if from.side != guestSide {
		return from.side == stdStream
	}
	tree, err := c.isDirectory(ctx, from)
	return err == nil && !tree
}

// lockedFor is how long an agent may take to notice that the connection is gone
// over which the same file was sent before.
const lockedFor = 10 * time.Second

func (c *copying) upload(ctx context.Context, from, to operand, bar *progress) (client.Transfer, error) {
	options := client.UploadOptions{
		User: c.flags.user, Owners: c.owners, Exclude: c.flags.exclude, NoXattrs: c.flags.noXattrs,
		KeepExisting: c.flags.keep, Resume: !c.flags.noResume, Progress: bar.function(),
	}
	retries, cancel := context.WithTimeout(ctx, lockedFor)
	defer cancel()
	for {
		transfer, err := c.client.Upload(ctx, from.path, to.path, options)
		if !errors.Is(err, client.ErrLocked) || !options.Resume {
			return transfer, err
		}
		select {
		case <-retries.Done():
			return transfer, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// within copies in the guest, without the bytes passing through here.
func (c *copying) within(ctx context.Context, from, to operand) (client.Transfer, error) {
	if parent := to.parent(); parent != "" {
		if err := c.files.MkdirAll(ctx, parent, 0o755); err != nil {
			return client.Transfer{}, err
		}
	}
	result, err := c.files.Copy(ctx, from.path, to.path, client.CopyOptions{Recursive: true, NoReplace: c.flags.keep})
	return client.Transfer{Files: result.Files, Bytes: result.Bytes}, err
}

// fromStream writes a file whose size is not known before.
func (c *copying) fromStream(ctx context.Context, r io.Reader, to operand, bar *progress) (client.Transfer, error) {
	mode := client.Atomic
	if c.flags.keep {
		mode = client.Exclusive
	}
	info, err := c.files.WriteFile(ctx, to.path, bar.reader(c.app.blocked.reader(r)), client.WriteOptions{Mode: mode, Parents: true})
	if err != nil {
		return client.Transfer{}, err
	}
	return client.Transfer{Files: 1, Bytes: info.Size()}, nil
}

// toStdout copies a file, or what a device or FIFO gives.
func (c *copying) toStdout(ctx context.Context, from operand, bar *progress) (client.Transfer, error) {
	r, err := c.files.Open(ctx, from.path, client.ReadOptions{AllowSpecial: true})
	if err != nil {
		return client.Transfer{}, err
	}
	defer release(r)
	n, err := r.WriteTo(bar.writer(c.app.stdout, r.Info().Size()))
	return client.Transfer{Files: 1, Bytes: n}, err
}

// explain adds to an error what the user named and can do about it.
func (c *copying) explain(ctx context.Context, from, to operand, err error) error {
	if _, ok := errors.AsType[*outputError](err); ok || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, client.ErrUnavailable) && !c.flags.noResume {
		return fmt.Errorf("cp %s %s: %w; run the same command again to resume", from.text, to.text, err)
	}
	return fmt.Errorf("cp %s %s: %w", from.text, to.text, err)
}

// done reports a copy.
func (c *copying) done(from, to operand, t client.Transfer, took time.Duration) error {
	for _, skip := range t.Skips {
		c.app.warn("cp %s: %s: %s", escape(from.text), escape(skip.Path), escape(skip.Reason))
	}
	if more := t.Skipped - int64(len(t.Skips)); more > 0 {
		c.app.warn("cp %s: and %d more that are left out or not exactly as they were", escape(from.text), more)
	}
	if c.flags.json && to.side != stdStream {
		return c.printJSON(from, to, t, took)
	}
	if c.app.showsProgress(c.flags) {
		_, err := io.WriteString(c.app.stderr, summary(from, t, took))
		return err
	}
	return nil
}

func (c *copying) printJSON(from, to operand, t client.Transfer, took time.Duration) error {
	j := jsonCopy{
		Source: from.text, Destination: to.String(),
		Files: t.Files, Directories: t.Directories, Symlinks: t.Symlinks, HardLinks: t.HardLinks, Special: t.Special,
		Bytes: t.Bytes, Skipped: t.Skipped, Duration: took.Seconds(),
	}
	for _, skip := range t.Skips {
		j.Skips = append(j.Skips, jsonSkip{skip.Path, raw(skip.Path), skip.Reason})
	}
	if c.lines {
		return c.app.printJSONLine(j)
	}
	return c.app.printJSON(j)
}

// summary is a line for a terminal about what was copied.
func summary(from operand, t client.Transfer, took time.Duration) string {
	what := ""
	if n := t.Files + t.Symlinks + t.HardLinks + t.Special; n != 1 || t.Directories > 0 {
		what = fmt.Sprintf("%d files, ", n)
	}
	rate := ""
	if seconds := took.Seconds(); seconds > 0 {
		rate = fmt.Sprintf(" (%s/s)", formatSize(int64(float64(t.Bytes)/seconds)))
	}
	return fmt.Sprintf("%s: %s%s in %s%s\n", escape(from.text), what, formatSize(t.Bytes), took.Round(10*time.Millisecond), rate)
}
