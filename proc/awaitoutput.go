//go:build linux

package proc

import (
	"context"
	"errors"
	"io"
)

func (c OutputCondition) check() error {
	switch {
	case c.Process == nil:
		return checkProcess(c.Process)
	case c.Pattern == nil:
		return &SpecError{"pattern", "is missing"}
	case c.Stream != Stdout && c.Stream != Stderr:
		return &SpecError{"stream", "is neither stdout nor stderr"}
	}
	return nil
}

func (c OutputCondition) await(ctx context.Context, exited func()) (Match, error) {
	opts := SubscribeOptions{Lossless: true, Stdout: NoStream, Stderr: NoStream}
	if c.Stream == Stderr {
		opts.Stderr = c.From
	} else {
		opts.Stdout = c.From
	}
	sub, err := c.Process.Subscribe(opts)
	if err != nil {
		return Match{}, err
	}
	defer func() { _ = sub.Close() }()
	var m *matcher
	buf := make([]byte, 32<<10)
	for {
		ev, err := sub.Next(ctx, buf)
		switch {
		case errors.Is(err, io.EOF):
			return Match{}, ErrNever
		case err != nil:
			return Match{}, err
		case ev.Exit != nil:
			exited()
			continue
		}
		if m == nil || ev.Gap > 0 {
			// A match does not span a gap.
			if m, err = newMatcher(c.Pattern, ev.Offset); err != nil {
				return Match{}, err
			}
		}
		if m.write(ev.Data) {
			return Match{Offset: m.offset}, nil
		}
	}
}
