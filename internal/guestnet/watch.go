//go:build linux

package guestnet

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// How often to look. The kernel says when a socket is gone, but nobody says
// when one begins to listen; servers do so soon after processes were started.
const (
	quickInterval = 50 * time.Millisecond
	slowInterval  = time.Second
	// quickFor is how long to look often after something happened.
	quickFor = 5 * time.Second
	// spacing is the least time between two looks, however much goes on.
	spacing = 10 * time.Millisecond
	// dutyCycle bounds what looking may cost: for each moment of it, this many
	// without, 0.4 percent of one processor. It is the budget on a machine with
	// 10,000 sockets, too. What is not used is saved, up to savings, for the
	// moments in which something happens.
	dutyCycle = 250
	savings   = 50 * time.Millisecond
	// maxRest bounds the time between two looks, however dear they are.
	maxRest = 5 * time.Second
)

// snapshot is what listened at one moment. It never changes.
type snapshot struct {
	ports map[key]Port
	next  chan struct{} // closed when there is a newer one
}

// PortWatch tells what begins and ends to be listened on. It is for one
// goroutine.
type PortWatch struct {
	ports *Ports
	told  *snapshot // nil before the first
	ended bool
}

// Change is what happened to ports since the last one: those that were opened,
// or are another process's now, and those that were closed.
type Change struct {
	Opened, Closed []Port
}

// Watch begins to watch. The caller must close the watch. A port that opens is
// reported within about a second, and within about a tenth of one for some
// seconds after a process was started; one that opens and closes within that
// time may not be reported at all. A slow reader gets what has changed in the
// meantime.
func (p *Ports) Watch() (*PortWatch, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, ErrClosed
	case p.watches >= maxWatches:
		p.mu.Unlock()
		return nil, ErrTooManyWatches
	}
	p.watches++
	if p.watches == 1 {
		ctx, stop := context.WithCancel(context.Background())
		p.stop = stop
		p.loops.Go(func() { p.loop(ctx) })
	}
	p.mu.Unlock()
	w := &PortWatch{ports: p}
	if _, err := p.look(); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watch. The last one ends the looking.
func (w *PortWatch) Close() error {
	if w.ended {
		return nil
	}
	w.ended = true
	p := w.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watches--; p.watches == 0 {
		p.stop()
	}
	return nil
}

// Next waits for a change and returns it. The first is all that is listened on,
// at once, and may be empty.
func (w *PortWatch) Next(ctx context.Context) (Change, error) {
	for {
		w.ports.mu.Lock()
		now := w.ports.now
		w.ports.mu.Unlock()
		if before := w.told; now != before {
			w.told = now
			if change := now.since(before); before == nil || len(change.Opened)+len(change.Closed) > 0 {
				return change, nil
			}
		}
		select {
		case <-now.next:
		case <-w.ports.done:
			return Change{}, ErrClosed
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

// since is what changed after before, which may be nil.
func (s *snapshot) since(before *snapshot) Change {
	var c Change
	if before == nil {
		before = &snapshot{}
	}
	for k, port := range s.ports {
		if old, ok := before.ports[k]; !ok || old != port {
			c.Opened = append(c.Opened, port)
		}
	}
	for k, port := range before.ports {
		if _, ok := s.ports[k]; !ok {
			c.Closed = append(c.Closed, port)
		}
	}
	slices.SortFunc(c.Opened, comparePorts)
	slices.SortFunc(c.Closed, comparePorts)
	return c
}

// Poke makes those who watch look soon: a process has been started, or
// something else makes a change likely.
func (p *Ports) Poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// look reads the tables, and publishes what is there if it is something new.
func (p *Ports) look() (changed bool, err error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	list, err := p.read(false)
	if err != nil {
		return false, err
	}
	ports := make(map[key]Port, len(list))
	for _, port := range list {
		ports[port.key()] = port
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	if p.now != nil && maps.Equal(ports, p.now.ports) {
		return false, nil
	}
	before := p.now
	p.now = &snapshot{ports: ports, next: make(chan struct{})}
	if before != nil {
		close(before.next)
	}
	return true, nil
}

// loop looks, until ctx ends.
func (p *Ports) loop(ctx context.Context) {
	if gone, err := openDestroyed(); err == nil {
		p.loops.Go(func() { gone.run(p.Poke) })
		defer gone.close()
	}
	started := newForkCounter()
	defer started.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var pace pacer
	wake := p.wake
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-wake:
			pace.excite()
			timer.Reset(time.Until(pace.earliest))
			wake = nil // once is enough until then
			continue
		}
		wake = p.wake
		// What it costs is processor time, not what a busy machine makes of it.
		runtime.LockOSThread()
		before := threadTime()
		// An error is one of too many open files at worst; it passes.
		changed, _ := p.look()
		cost := threadTime() - before
		runtime.UnlockOSThread()
		if changed || started.moved() {
			pace.excite()
		}
		timer.Reset(pace.rest(cost, time.Now()))
	}
}

// pacer decides when to look again. The zero value is in a hurry.
type pacer struct {
	interval time.Duration
	quick    time.Time // until when to look often
	earliest time.Time // before which not to look, whatever happens
	excited  bool

	last time.Time     // of the last look
	debt time.Duration // processor time that was used beyond the budget; negative is saved
}

// excite makes the next looks quick ones.
func (p *pacer) excite() { p.excited = true }

// rest returns the time from now to the next look, after one that has cost so
// much.
func (p *pacer) rest(cost time.Duration, now time.Time) time.Duration {
	if p.excited || p.interval == 0 {
		p.excited = false
		p.interval, p.quick = quickInterval, now.Add(quickFor)
	} else if now.After(p.quick) {
		p.interval = min(2*p.interval, slowInterval)
	}
	if p.last.IsZero() {
		p.debt = -savings
	}
	p.debt = max(p.debt-now.Sub(p.last)/dutyCycle, -savings) + cost
	p.last = now
	least := min(max(spacing, dutyCycle*p.debt), maxRest)
	p.earliest = now.Add(least)
	return max(least, p.interval)
}

// threadTime is the processor time that the calling thread has used.
func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
