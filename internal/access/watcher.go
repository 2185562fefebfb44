//go:build linux

package access

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of watchers, each of which holds about maxQueueBytes at most.
const (
	maxWatchers   = 32
	maxQueueBytes = 1 << 20
	maxTextBytes  = 4 << 10
	eventBytes    = 512 // what an event takes besides its texts
)

// feed hands events to watchers. The zero value has none.
type feed struct {
	mu       sync.Mutex
	closed   bool
	watchers map[*Watcher]struct{}

	all, terminals, files atomic.Int32 // how many watchers want such events
}

// A Watcher delivers events. A slow one loses the oldest and is told how many.
// It is for one goroutine, but for Close.
type Watcher struct {
	feed *feed
	opts WatchOptions
	wake chan struct{} // holds a token when there may be something new

	mu     sync.Mutex
	queue  []Event
	bytes  int
	missed uint64
	end    error // nothing follows what is queued
}

func (f *feed) watch(opts WatchOptions) (*Watcher, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, ErrStoreClosed
	case len(f.watchers) >= maxWatchers:
		return nil, ErrTooManyWatchers
	}
	w := &Watcher{feed: f, opts: opts, wake: make(chan struct{}, 1)}
	if f.watchers == nil {
		f.watchers = make(map[*Watcher]struct{})
	}
	f.watchers[w] = struct{}{}
	f.count(w, 1)
	return w, nil
}

// count keeps account of what is wanted. f.mu is held.
func (f *feed) count(w *Watcher, n int32) {
	f.all.Add(n)
	if w.opts.Terminals {
		f.terminals.Add(n)
	}
	if w.opts.Files {
		f.files.Add(n)
	}
}

// close ends every watcher after what it has queued.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.watchers {
		w.finish(ErrStoreClosed)
	}
}

// wanted reports whether there is anybody for a kind of event.
func (f *feed) wanted(kind EventKind) bool {
	switch kind {
	case EventTerminal:
		return f.terminals.Load() > 0
	case EventFile:
		return f.files.Load() > 0
	}
	return f.all.Load() > 0
}

// publish hands an event to everybody who wants it. The event and what it
// points to stay the caller's.
func (f *feed) publish(e Event) {
	if !f.wanted(e.Kind) {
		return
	}
	e.Missed = 0
	e.Command = clip(e.Command, maxTextBytes)
	e.Target = clip(e.Target, maxTextBytes)
	e.Reason = clip(e.Reason, maxTextBytes)
	e.Session = clip(e.Session, maxTextBytes)
	if e.Terminal != nil {
		terminal := *e.Terminal
		terminal.Output = bytes.Clone(terminal.Output)
		terminal.Term = clip(terminal.Term, maxTextBytes)
		e.Terminal = &terminal
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Time = time.Now() // in the order in which they are told
	for w := range f.watchers {
		if w.wants(e.Kind) {
			w.push(e)
		}
	}
}

func (w *Watcher) wants(kind EventKind) bool {
	switch kind {
	case EventTerminal:
		return w.opts.Terminals
	case EventFile:
		return w.opts.Files
	}
	return true
}

// size is about what an event takes in memory.
func (e *Event) size() int {
	n := eventBytes + len(e.Command) + len(e.Target) + len(e.Reason) + len(e.Session) + len(e.Label)
	if e.Terminal != nil {
		n += len(e.Terminal.Output) + len(e.Terminal.Term)
	}
	return n
}

// push queues an event in place of the oldest, where there is no room.
func (w *Watcher) push(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end != nil {
		return
	}
	size := e.size()
	for len(w.queue) > 0 && w.bytes+size > maxQueueBytes {
		w.pop()
		w.missed++
	}
	w.queue = append(w.queue, e)
	w.bytes += size
	w.notify()
}

// pop takes the oldest event out. w.mu is held, and there is one.
func (w *Watcher) pop() Event {
	e := w.queue[0]
	w.queue[0] = Event{} // what it points to is free
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil // a burst's buffer is not kept
	}
	w.bytes -= e.size()
	return e
}

// finish lets nothing follow what is queued.
func (w *Watcher) finish(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end == nil {
		w.end = why
		w.notify()
	}
}

func (w *Watcher) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next event. The error is ctx's, [ErrStoreClosed] after the
// last one, or [ErrWatcherClosed] after Close.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		w.mu.Lock()
		if len(w.queue) > 0 {
			e := w.pop()
			e.Missed, w.missed = w.missed, 0
			w.mu.Unlock()
			return e, nil
		}
		end := w.end
		w.mu.Unlock()
		if end != nil {
			return Event{}, end
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Close ends the watcher, and drops what is queued. It may be called twice.
func (w *Watcher) Close() error {
	w.feed.mu.Lock()
	if _, ok := w.feed.watchers[w]; ok {
		delete(w.feed.watchers, w)
		w.feed.count(w, -1)
	}
	w.feed.mu.Unlock()

	w.finish(ErrWatcherClosed)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue, w.bytes = nil, 0
	return nil
}
