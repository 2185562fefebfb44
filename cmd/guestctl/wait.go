package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/client"
)

// waitFlags are the options of wait.
type waitFlags struct {
	ports   []string
	outputs []string
	files   []string
	urls    []string
	status  int
	stream  string
	own     bool
	timeout time.Duration
	json    bool
}

const waitLong = `Wait for processes in the guest to end, or for something to happen there. The
agent watches; nothing polls.

Without a condition it waits until every process has ended and exits with the
code of the last one named. With conditions it waits for the first that is true,
and exits with 0; if the process ends first, with 1. Without an ID the
conditions are about the machine (a port, a file, a URL), not its processes.

When the time-out expires it exits with 124.`

func newWait(a *app) *cobra.Command {
	var f waitFlags
	cmd := &cobra.Command{
		Use:   "wait [flags] [ID]...",
		Short: "Wait for a process's end, a port, output, a file or a URL",
		Long:  waitLong,
		Example: `  guestctl wait build
  guestctl wait web --port 8000 --timeout 10s
  guestctl wait db --output 'ready to accept'
  guestctl wait --file /run/app.pid --http http://127.0.0.1:8000/healthz`,
		Annotations:       map[string]string{passesExitCode: "yes"},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), &f, args) },
		ValidArgsFunction: a.completeProcess(-1, all),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.ports, "port", nil, "until somebody listens on this TCP `port`")
	flags.BoolVar(&f.own, "own", false, "with --port: only a listener of the process, or of what descends from it")
	flags.StringArrayVar(&f.outputs, "output", nil, "until its output has a match of this `expression` (RE2), which is printed")
	flags.StringVar(&f.stream, "stream", "", "with --output: look only at `stdout` or stderr")
	flags.StringArrayVar(&f.files, "file", nil, "until this absolute `path` exists")
	flags.StringArrayVar(&f.urls, "http", nil, "until a GET of this `url`, in the guest, is answered with 200 to 399")
	flags.IntVar(&f.status, "status", 0, "with --http: with this `status` instead")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up after this `time`, with exit code 124")
	jsonFlag(cmd, &f.json)
	return cmd
}

// waited is what wait --json prints, an array of it without conditions.
type waited struct {
	Process   string    `json:"process,omitempty"`
	Condition string    `json:"condition"`
	Exit      *jsonExit `json:"exit,omitempty"`
	Matched   *string   `json:"matched,omitempty"`
	Raw       []byte    `json:"raw_matched,omitempty"`
	Offset    *uint64   `json:"offset,omitempty"`
}

func (a *app) wait(ctx context.Context, f *waitFlags, ids []string) error {
	conditions, err := f.conditions()
	if err != nil {
		return err
	}
	switch {
	case len(ids) == 0 && len(conditions) == 0:
		return usagef("wait for what? Give a process's ID, or a condition")
	case len(ids) == 0 && (len(f.outputs) > 0 || f.own):
		return usagef("--output and --own want the ID of a process")
	case len(ids) > 1 && len(conditions) > 0:
		return usagef("conditions are about one process")
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	cancel := func() {}
	if f.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
	}
	defer cancel()
	if len(conditions) == 0 {
		err = a.waitExits(ctx, f, c, ids)
	} else {
		err = a.waitFirst(ctx, f, c.Process(strings.Join(ids, "")), conditions)
	}
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrWaitTimeout)
	if timedOut && f.timeout > 0 && !errors.Is(err, client.ErrUnavailable) {
		return &codedError{exitTimeout, fmt.Errorf("wait: time-out after %s", f.timeout)}
	}
	return err
}

func (f *waitFlags) conditions() ([]client.Condition, error) {
	streams := map[string]client.Stream{"": client.AnyStream, "stdout": client.Stdout, "stderr": client.Stderr}
	stream, known := streams[f.stream]
	if !known {
		return nil, usagef("--stream is stdout or stderr, not %q", f.stream)
	}
	var conditions []client.Condition
	for _, text := range f.ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return nil, usagef("--port is a number from 1 to 65535, not %q", text)
		}
		conditions = append(conditions, client.WaitPort{Port: uint16(port), Own: f.own})
	}
	for _, pattern := range f.outputs {
		conditions = append(conditions, client.WaitOutput{Pattern: pattern, Stream: stream})
	}
	for _, path := range f.files {
		conditions = append(conditions, client.WaitFile{Path: guestPath(path)})
	}
	for _, url := range f.urls {
		conditions = append(conditions, client.WaitHTTP{URL: url, Status: f.status})
	}
	return conditions, nil
}

// waitExits waits for all processes and ends as the last.
func (a *app) waitExits(ctx context.Context, f *waitFlags, c *client.Client, ids []string) error {
	var results []waited
	var last *client.ExitStatus
	for _, id := range ids {
		result, err := c.Process(id).Wait(ctx)
		if err != nil {
			return err
		}
		if last = result.Exit; last == nil {
			return fmt.Errorf("wait: process %s: %w", id, client.ErrProtocol)
		}
		results = append(results, waited{Process: id, Condition: "exit", Exit: newJSONExit(last)})
	}
	if f.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	return a.exited(last)
}

// waitFirst waits for the first of conditions, or the end of the process, if
// there is one.
func (a *app) waitFirst(ctx context.Context, f *waitFlags, p *client.Process, conditions []client.Condition) error {
	if p.ID() != "" {
		conditions = append(conditions, client.WaitExit{})
	}
	result, err := p.Wait(ctx, conditions...)
	if err != nil {
		return err
	}
	if result.Condition >= len(conditions) {
		return fmt.Errorf("wait: %w: condition %d", client.ErrProtocol, result.Condition)
	}
	met := waited{Process: p.ID(), Exit: newJSONExit(result.Exit)}
	text := string(result.Matched)
	switch conditions[result.Condition].(type) {
	case client.WaitExit:
		met.Condition = "exit"
	case client.WaitPort:
		met.Condition = "port"
	case client.WaitFile:
		met.Condition = "file"
	case client.WaitHTTP:
		met.Condition = "http"
	case client.WaitOutput:
		met.Condition, met.Matched, met.Raw, met.Offset = "output", &text, raw(text), &result.Offset
	}
	if f.json {
		err = a.printJSON(met)
	} else if met.Matched != nil {
		_, err = fmt.Fprintln(a.stdout, a.name(text))
	}
	if err == nil && met.Condition == "exit" {
		err = &codedError{exitFailed, fmt.Errorf("wait: process %s ended first: %s", p.ID(), result.Exit)}
	}
	return err
}
