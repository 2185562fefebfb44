package main

import (
	"bytes"
	"context"

	"io"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// logsFlags are the options of logs.
type logsFlags struct {
	follow         bool
	stdout, stderr bool
	tail           int
	tailed         bool // tail was given
	json           bool
}

const logsLong = `Print what a process in the guest has written: its stdout to stdout, its stderr
to stderr. The agent keeps the newest of each stream (1 MiB, or what --buffer
said when it was started), also for a while after its end.

With -f it goes on with what is written later, until the process ends, over
broken connections too. It never makes the process wait; output that left the
agent's memory before it could be read is reported on stderr, with its size.`

func newLogs(a *app) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs [flags] ID",
		Short: "Print a process's output",
		Long:  logsLong,
		Example: `  guestctl logs -f web
  guestctl logs --stderr --tail 20 web`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.tailed = cmd.Flags().Changed("tail")
			if f.tail < 0 {
				return usagef("--tail must not be negative")
			}
			return a.logs(cmd.Context(), &f, args[0])
		},
		ValidArgsFunction: a.completeProcess(1, all),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what is written later, until the process ends")
	flags.BoolVar(&f.stdout, "stdout", false, "only its stdout")
	flags.BoolVar(&f.stderr, "stderr", false, "only its stderr")
	flags.IntVarP(&f.tail, "tail", "n", 0, "begin with the last `lines` of what is kept")
	jsonFlag(cmd, &f.json)
	return cmd
}

// logEntry is a line of logs --json.
type logEntry struct {
	Stream string    `json:"stream,omitempty"`
	Offset *uint64   `json:"offset,omitempty"`
	Text   *string   `json:"text,omitempty"`
	Raw    []byte    `json:"raw_text,omitempty"`
	Gap    *jsonGap  `json:"gap,omitempty"`
	Exit   *jsonExit `json:"exit,omitempty"`
}

type jsonGap struct {
	Stream string `json:"stream"`
	Offset uint64 `json:"offset"`
	Bytes  uint64 `json:"bytes"`
}

func (a *app) logs(ctx context.Context, f *logsFlags, id string) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	process := c.Process(id)
	// From the very beginning, so that what is not kept is told as a gap.
	from := &client.Offsets{}
	if f.tailed {
		if from, err = a.printTail(ctx, f, process); err != nil || !f.follow {
			return err
		}
	}
	output, err := process.Attach(ctx, client.AttachOptions{From: from, NoFollow: !f.follow})
	if err != nil {
		return err
	}
	defer release(output)
	for event, err := range output.Events() {
		if err != nil {
			return err
		}
		if err := a.printLog(f, process, event); err != nil {
			return err
		}
	}
	return nil
}

// printLog prints one event, if it is of a stream that is wanted.
func (a *app) printLog(f *logsFlags, process *client.Process, event client.OutputEvent) error {
	if event.Exit == nil && !f.wants(event.Stream) {
		return nil
	}
	if f.json {
		return a.printJSONLine(newLogEntry(event))
	}
	switch {
	case event.Gap != nil:
		a.warn("%s", message(&client.GapError{Process: process.ID(), Gap: *event.Gap}))
		return nil
	case event.Data != nil:
		_, err := a.streamWriter(event.Stream).Write(event.Data)
		return err
	}
	return nil
}

func (a *app) streamWriter(s client.Stream) io.Writer {
	if s == client.Stderr {
		return a.stderr
	}
	return a.stdout
}

func (f *logsFlags) wants(s client.Stream) bool {
	return f.stdout == f.stderr || f.stdout == (s == client.Stdout)
}

func newLogEntry(event client.OutputEvent) logEntry {
	switch {
	case event.Exit != nil:
		return logEntry{Exit: newJSONExit(event.Exit)}
	case event.Gap != nil:
		return logEntry{Gap: &jsonGap{event.Gap.Stream.String(), event.Gap.Offset, event.Gap.Bytes}}
	}
	text := string(event.Data)
	return logEntry{Stream: event.Stream.String(), Offset: &event.Offset, Text: &text, Raw: raw(text)}
}

// printTail prints the last lines of what is kept now and returns where that
// ends. Streams are told apart, but counted together, as they were written.
func (a *app) printTail(ctx context.Context, f *logsFlags, process *client.Process) (*client.Offsets, error) {
	output, err := process.Attach(ctx, client.AttachOptions{NoFollow: true})
	if err != nil {
		return nil, err
	}
	defer release(output)
	tail := lastLines{limit: f.tail}
	for event, err := range output.Events() {
		if err != nil {
			return nil, err
		}
		if event.Data != nil && f.wants(event.Stream) {
			tail.add(event)
		}
	}
	for _, line := range tail.lines() {
		if err := a.printLog(f, process, line); err != nil {
			return nil, err
		}
	}
	offsets := output.Offsets()
	return &offsets, nil
}

// lastLines keeps the last lines of output: a ring's worth at most.
type lastLines struct {
	limit int
	kept  []client.OutputEvent // each at most one line
}

func (l *lastLines) add(event client.OutputEvent) {
	data := bytes.Clone(event.Data)
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 {
			n = len(data)
		}
		l.kept = append(l.kept, client.OutputEvent{Stream: event.Stream, Offset: event.Offset, Data: data[:n]})
		event.Offset += uint64(n)
		data = data[n:]
	}
}

// lines are the last ones. Pieces of a line, which came one by one, count once.
func (l *lastLines) lines() []client.OutputEvent {
	first := len(l.kept)
	for count := 0; first > 0; first-- {
		piece := l.kept[first-1]
		if isEnd := bytes.HasSuffix(piece.Data, []byte("\n")) || first == len(l.kept); isEnd {
			if count == l.limit {
				break
			}
			count++
		}
	}
	return l.kept[first:]
}
