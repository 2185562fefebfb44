//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bulkWrite is a write from which on much is expected to come.
	bulkWrite = 32 << 10
	// widePipe is the capacity of the standard input then, in bytes. With
	// 64 KiB, which is what a pipe begins with, every piece of an upload
	// fills it, and writer and program wake each other for each.
	widePipe = 256 << 10
)

// Write writes b to the process's standard input or terminal and blocks while
// the pipe is full. It returns how much was written, which is less than len(b)
// only with an error: EPIPE where nobody reads any more, ErrStdinClosed,
// ErrNoStdin, or ctx's error. Concurrent calls do not mix their bytes.
func (p *Process) Write(ctx context.Context, b []byte) (int, error) {
	f := p.input()
	if f == nil {
		return 0, fmt.Errorf("write to process %s: %w", p.id, ErrNoStdin)
	}
	select {
	case p.inLock <- struct{}{}:
		defer func() { <-p.inLock }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if p.stdinClosed() {
		return 0, fmt.Errorf("write to process %s: %w", p.id, ErrStdinClosed)
	}
	if len(b) >= bulkWrite && !p.inWide && p.io.tty == nil {
		p.inWide = true
		widen(f)
	}
	n, err := writeContext(ctx, f, b)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrClosed):
		err = ErrStdinClosed
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return n, ctx.Err()
	}
	return n, fmt.Errorf("write to process %s: %w", p.id, errnoOf(err))
}

// widen gives a pipe more capacity, where the kernel grants it: all pipes of an
// unprivileged user together are bounded (pipe(7)).
func widen(f *os.File) {
	_ = control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, widePipe)
		return err
	})
}

// writeContext writes until ctx ends, which shows as ErrDeadlineExceeded.
func writeContext(ctx context.Context, f *os.File, b []byte) (int, error) {
	if ctx.Done() == nil {
		return f.Write(b)
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		_ = f.SetWriteDeadline(time.Unix(1, 0))
	})
	n, err := f.Write(b)
	if !stop() {
		<-fired
		_ = f.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// CloseStdin ends the standard input: the process reads EOF when it has read
// what was written. A write to a pipe that is blocked is given up, and nothing
// is waited for.
//
// A terminal cannot be closed for one direction. There the end-of-file character
// is typed, after what is being written, unless the terminal's reader has
// switched line editing off. If ctx ends while the terminal takes nothing, the
// error is ctx's, and the input is still open.
//
// Closing twice is ErrStdinClosed.
func (p *Process) CloseStdin(ctx context.Context) error {
	var err error
	switch {
	case p.input() == nil:
		err = ErrNoStdin
	case p.io.tty != nil:
		err = p.typeEOF(ctx)
	case !p.endStdin():
		err = ErrStdinClosed
	default:
		err = p.io.stdin.Close()
	}
	if err != nil {
		return fmt.Errorf("close stdin of process %s: %w", p.id, err)
	}
	return nil
}

// typeEOF types the terminal's end-of-file character, and marks the input as
// closed once that is done.
func (p *Process) typeEOF(ctx context.Context) error {
	select {
	case p.inLock <- struct{}{}:
		defer func() { <-p.inLock }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.stdinClosed() {
		return ErrStdinClosed
	}
	var eof [1]byte
	found := false
	_ = control(p.io.tty, func(fd int) error {
		eof[0], found = eofChar(fd)
		return nil
	})
	if found {
		_, err := writeContext(ctx, p.io.tty, eof[:])
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return doneIfClosed(err)
		}
	}
	p.endStdin()
	return nil
}

// endStdin marks the input as closed. It reports false if it was already.
func (p *Process) endStdin() bool {
	p.inMu.Lock()
	defer p.inMu.Unlock()
	was := p.inClosed
	p.inClosed = true
	return !was
}

func (p *Process) input() *os.File {
	if p.io.tty != nil {
		return p.io.tty
	}
	return p.io.stdin
}

func (p *Process) stdinClosed() bool {
	p.inMu.Lock()
	defer p.inMu.Unlock()
	return p.inClosed
}

// doneIfClosed: the agent's ends are closed when the process is finished.
func doneIfClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return ErrProcessDone
	}
	return err
}
