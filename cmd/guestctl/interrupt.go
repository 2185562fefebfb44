package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruption ends a context at SIGINT, SIGTERM and SIGHUP, so that commands
// clean up; the second one ends guestctl at once.
type interruption struct {
	cancel   context.CancelCauseFunc
	release  sync.Once
	released chan struct{}
	watcher  sync.WaitGroup
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return e.signal.String() }

// interruptible begins an interruption, which must be stopped.
func interruptible(ctx context.Context) (context.Context, *interruption) {
	ctx, cancel := context.WithCancelCause(ctx)
	i := &interruption{cancel: cancel, released: make(chan struct{})}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	i.watcher.Go(func() { i.watch(signals) })
	return ctx, i
}

// watch ends the context at a signal, up to the release.
func (i *interruption) watch(signals chan os.Signal) {
	defer signal.Stop(signals)
	var s os.Signal
	select {
	case s = <-signals:
	case <-i.released:
		// What came before the release is nobody else's.
		select {
		case s = <-signals:
		default:
			return
		}
	}
	number, _ := s.(syscall.Signal)
	i.cancel(&signalError{number})
}

// handOver leaves signals to the command, which has asked for them already.
func (i *interruption) handOver() {
	i.release.Do(func() { close(i.released) })
	i.watcher.Wait()
}

func (i *interruption) stop() {
	i.handOver()
	i.cancel(nil)
}
