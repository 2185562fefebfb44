//go:build linux

package proc

import (
	"context"
	"io"
	"unicode/utf8"
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

func (c OutputCondition) await(ctx context.Context) (Match, error) {
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
	next := func(buf []byte) (Event, error) { return sub.Next(ctx, buf) }
	r := &runes{next: next, buf: make([]byte, 32<<10)}
	if c.Pattern.MatchReader(r) {
		return Match{Offset: r.offset}, nil
	}
	if ctx.Err() != nil {
		return Match{}, ctx.Err()
	}
	return Match{}, ErrNever
}

// runes reads a subscription rune by rune, so that a match may span any
// number of chunks while nothing is kept.
type runes struct {
	next   func(buf []byte) (Event, error)
	buf    []byte
	data   []byte // unread part of buf
	offset uint64 // of data[0] in the stream
	ended  bool
}

// ReadRune returns the next rune; a byte that begins none is U+FFFD.
func (r *runes) ReadRune() (rune, int, error) {
	for !r.ended && !utf8.FullRune(r.data) {
		r.more()
	}
	if len(r.data) == 0 {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRune(r.data)
	r.data = r.data[n:]
	r.offset += uint64(n)
	return c, n, nil
}

// more appends the next chunk behind what is left: at most part of a rune.
func (r *runes) more() {
	n := copy(r.buf, r.data)
	ev, err := r.next(r.buf[n:])
	if err != nil {
		r.ended = true
		return
	}
	if ev.Exit != nil {
		return
	}
	if ev.Gap > 0 {
		// A rune does not span a gap.
		n = copy(r.buf, ev.Data)
		r.data, r.offset = r.buf[:n], ev.Offset
		return
	}
	if n == 0 {
		r.offset = ev.Offset
	}
	r.data = r.buf[:n+len(ev.Data)]
}
