//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// signalTarget takes what a relay passes on.
type signalTarget chan os.Signal

func (t signalTarget) signal(_ context.Context, s os.Signal) error {
	t <- s
	return nil
}

func (t signalTarget) resize(context.Context) error { return nil }

// TestEarlySignal: a signal that comes while the program starts is the
// program's, which may have begun without our knowing.
func TestEarlySignal(t *testing.T) {
	target := make(signalTarget, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r := relaySignals(target, cancel)
	defer r.stop()
	r.signals <- syscall.SIGUSR1
	r.start(ctx)
	select {
	case s := <-target:
		if s != syscall.SIGUSR1 {
			t.Errorf("got %v", s)
		}
	case <-time.After(patience):
		t.Error("it was dropped")
	}
	if ctx.Err() != nil {
		t.Error(context.Cause(ctx))
	}
}

// TestSignalsEndAHangingStart: after a while by one, at once by two.
func TestSignalsEndAHangingStart(t *testing.T) {
	for n := range 2 {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := relaySignals(make(signalTarget), cancel)
		for range n + 1 {
			r.signals <- syscall.SIGTERM
		}
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			t.Error("it hangs")
		}
		if s, ok := errors.AsType[*signalError](context.Cause(ctx)); !ok || s.signal != syscall.SIGTERM {
			t.Error(context.Cause(ctx))
		}
		r.stop()
		cancel(nil)
	}
}

// TestSignalBeforeTheHandOver: one that came before a command took signals over
// is not lost because nobody had looked yet.
func TestSignalBeforeTheHandOver(t *testing.T) {
	for range 50 { // of two things that are there a select takes either
		ctx, cancel := context.WithCancelCause(t.Context())
		i := &interruption{cancel: cancel, released: make(chan struct{})}
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		close(i.released)
		i.watch(signals)
		if s, ok := errors.AsType[*signalError](context.Cause(ctx)); !ok || s.signal != syscall.SIGTERM {
			t.Fatalf("the context's end is %v", context.Cause(ctx))
		}
		cancel(nil)
	}
}
