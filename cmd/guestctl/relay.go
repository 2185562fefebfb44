package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// signalTimeout bounds how long the agent may take to deliver a signal.
const signalTimeout = 5 * time.Second

// target is what signals are passed on to.
type target interface {
	signal(ctx context.Context, s os.Signal) error
	resize(ctx context.Context) error
}

// startGrace is how long a signal that comes before the program runs is kept for
// it: it may have started already, without our knowing it yet.
const startGrace = time.Second

// relay passes this process's signals on to a program in the guest. One that
// comes while the start hangs ends the attempt.
type relay struct {
	target   target
	cancel   context.CancelCauseFunc
	signals  chan os.Signal
	resizes  chan os.Signal
	stopped  chan struct{}
	starting sync.WaitGroup
	running  sync.WaitGroup
	started  chan struct{}
	early    os.Signal // came before started; nil if none did
}

// relaySignals begins to take signals. Cancel is called with the cause when one
// comes before start, or when one cannot be delivered. Stop must be called.
func relaySignals(t target, cancel context.CancelCauseFunc) *relay {
	r := &relay{
		target:  t,
		cancel:  cancel,
		signals: make(chan os.Signal, 16),
		resizes: make(chan os.Signal, 1),
		stopped: make(chan struct{}),
		started: make(chan struct{}),
	}
	var taken []os.Signal
	for s := range forwarded() {
		taken = append(taken, s)
	}
	signal.Notify(r.signals, taken...)
	signal.Notify(r.resizes, resizeSignal)
	r.starting.Go(r.beforeStart)
	return r
}

func (r *relay) beforeStart() {
	var given <-chan time.Time // up on the start
	for {
		select {
		case s := <-r.signals:
			if r.early == nil {
				r.early, given = s, time.After(startGrace)
				continue
			}
		case <-given:
		case <-r.started:
			return
		case <-r.stopped:
			return
		}
		number, _ := r.early.(syscall.Signal)
		r.cancel(&signalError{number})
		return
	}
}

// start passes signals on from now on, with calls that ctx bounds.
func (r *relay) start(ctx context.Context) {
	close(r.started)
	r.starting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	r.running.Go(func() {
		<-r.stopped
		cancel()
	})
	r.running.Go(func() { r.run(ctx) })
}

func (r *relay) run(ctx context.Context) {
	if r.early != nil {
		if err := r.target.signal(ctx, r.early); err != nil {
			r.cancel(err)
			return
		}
	}
	for {
		var err error
		select {
		case s := <-r.signals:
			err = r.target.signal(ctx, s)
		case <-r.resizes:
			err = r.target.resize(ctx)
		case <-r.stopped:
			return
		}
		if err != nil {
			r.cancel(err)
			return
		}
	}
}

// stop returns when no signal is passed on any more.
func (r *relay) stop() {
	signal.Stop(r.signals)
	signal.Stop(r.resizes)
	close(r.stopped)
	r.starting.Wait()
	r.running.Wait()
}
