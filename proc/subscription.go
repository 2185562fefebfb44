//go:build linux

package proc

import (
	"context"
	"fmt"
	"io"
)

// A Subscription delivers a process's output and exit. It is used by one
// goroutine at a time, except for Close. Its owner closes it; a lossless one
// that is neither read nor closed stops the process.
type Subscription struct {
	out      *output
	lossless bool
	wakeup   chan struct{} // capacity 1

	// Guarded by out.mu.
	want     [2]bool
	cursor   [2]uint64
	turn     int // the stream to look at first, for fairness
	exitSent bool
	closed   bool
}

// subscribe attaches. Offsets were written for the streams as they are now.
func (o *output) subscribe(opts SubscribeOptions) (*Subscription, error) {
	s := &Subscription{out: o, lossless: opts.Lossless, wakeup: make(chan struct{}, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := int64(o.budget.now())
	for i, from := range []int64{opts.Stdout, opts.Stderr} {
		r := &o.rings[i]
		switch {
		case from == NoStream:
			continue
		case from == FromNow:
			s.cursor[i] = r.end
		case from < 0 || uint64(from) > r.end:
			return nil, &SpecError{Field: Stream(i+1).String() + " offset",
				Reason: fmt.Sprintf("%d is not between 0 and %d", from, r.end)}
		default:
			s.cursor[i] = uint64(from)
		}
		s.want[i] = true
		r.lastRead.Store(now)
	}
	o.subs = append(o.subs, s)
	s.poke()
	return s, nil
}

// Next waits for the next event and reads data into buf, which must not be
// empty; the event's Data is a part of it, and nothing else refers to it. At
// the end of everything it returns io.EOF. It returns ctx's error when ctx
// ends first, and may be called again then: nothing has been consumed. After
// Close it returns ErrClosed.
func (s *Subscription) Next(ctx context.Context, buf []byte) (Event, error) {
	if len(buf) == 0 {
		return Event{}, &SpecError{Field: "buf", Reason: "is empty"}
	}
	for {
		ev, ok, err := s.take(buf)
		if ok || err != nil {
			return ev, err
		}
		select {
		case <-s.wakeup:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// take returns an event if there is one.
func (s *Subscription) take(buf []byte) (ev Event, ok bool, err error) {
	o := s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.closed {
		return Event{}, false, fmt.Errorf("subscription: %w", ErrClosed)
	}
	if s.exitDue() {
		s.exitSent = true
		exit := *o.exit
		return Event{Exit: &exit}, true, nil
	}
	ended := true
	for k := range o.rings {
		i := (s.turn + k) % len(o.rings)
		r := &o.rings[i]
		if !s.want[i] {
			continue
		}
		if s.cursor[i] < r.end {
			s.turn = i + 1
			return s.read(i, buf), true, nil
		}
		ended = ended && r.eof
	}
	if ended && s.exitSent {
		return Event{}, false, io.EOF
	}
	return Event{}, false, nil
}

// exitDue reports whether the exit comes next: everything that had been
// written when it was published is delivered.
func (s *Subscription) exitDue() bool {
	if s.exitSent || s.out.exit == nil {
		return false
	}
	for i := range s.out.rings {
		if s.want[i] && s.cursor[i] < s.out.rings[i].exitEnd {
			return false
		}
	}
	return true
}

func (s *Subscription) read(i int, buf []byte) Event {
	o := s.out
	r := &o.rings[i]
	ev := Event{Stream: Stream(i + 1)}
	if s.cursor[i] < r.start {
		ev.Gap = r.start - s.cursor[i]
		s.cursor[i] = r.start
	}
	ev.Offset = s.cursor[i]
	n := r.copyFrom(s.cursor[i], buf)
	ev.Data = buf[:n:n]
	s.cursor[i] += uint64(n)
	r.lastRead.Store(int64(o.budget.now()))
	if s.lossless {
		o.advanced(i)
	}
	return ev
}

// Close ends the subscription and frees a process that waits for it. It may
// be called at any time, also twice.
func (s *Subscription) Close() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.out.remove(s)
		s.poke()
	}
	return nil
}

// poke makes Next look again.
func (s *Subscription) poke() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}
