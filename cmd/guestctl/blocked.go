package main

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// blocked counts the reads, writes and opens under way that nothing here can end,
// but only who is at the other end of a pipe or terminal.
type blocked struct{ count atomic.Int32 }

// during counts f while it runs.
func (b *blocked) during(f func()) {
	b.count.Add(1)
	defer b.count.Add(-1)
	f()
}

func (b *blocked) reader(r io.Reader) io.Reader { return blockedReader{b, r} }

type blockedReader struct {
	blocked *blocked
	r       io.Reader
}

func (b blockedReader) Read(p []byte) (n int, err error) {
	b.blocked.during(func() { n, err = b.r.Read(p) })
	return n, err
}

func (b *blocked) writer(w io.Writer) io.Writer { return blockedWriter{b, w} }

type blockedWriter struct {
	blocked *blocked
	w       io.Writer
}

func (b blockedWriter) Write(p []byte) (n int, err error) {
	b.blocked.during(func() { n, err = b.w.Write(p) })
	return n, err
}

// blockedGrace is how long a command may still be blocked after a signal that is
// to end it.
const blockedGrace = time.Second

// await returns a command's exit code, as soon as it has ended. Where a signal
// ends it while it is blocked, it is left where it is: guestctl is about to exit.
func (a *app) await(ctx context.Context, ended <-chan int) int {
	select {
	case code := <-ended:
		return code
	case <-ctx.Done():
	}
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	if !ok {
		return <-ended
	}
	for {
		select {
		case code := <-ended:
			return code
		case <-time.After(blockedGrace):
			if a.blocked.count.Load() > 0 {
				return exitSignal + int(s.signal)
			}
		}
	}
}
