//go:build linux

package proc

import (
	"errors"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// output is what a process has printed: a ring for each stream, the
// subscribers, and at the end the exit. One mutex guards all of it; the pumps
// read from their non-blocking descriptors under it, straight into the ring.
type output struct {
	budget *budget
	abort  chan struct{} // closed: the pumps end, whoever holds the pipe

	mu       sync.Mutex
	rings    [2]ring // of Stdout and Stderr; eof from the start where unused
	subs     []*Subscription
	exit     *Exit
	detached bool // the table has dropped the record

	pumps   atomic.Int32
	drained chan struct{} // closed by the last pump
}

func newOutput(b *budget, ringSize int) *output {
	o := &output{budget: b, abort: make(chan struct{}), drained: make(chan struct{})}
	now := int64(b.now())
	for i := range o.rings {
		r := &o.rings[i]
		r.limit, r.eof = ringSize, true
		r.lastRead.Store(now)
	}
	return o
}

// open marks the streams that will be pumped. It comes before any subscriber.
func (o *output) open(streams ...Stream) {
	for _, s := range streams {
		o.rings[s-1].eof = false
	}
}

// start begins to pump; a nil file is a stream that does not exist. A pump
// ends with its file, and the last one closes o.drained. The files are the
// caller's, who closes them after that.
func (o *output) start(files ...*os.File) {
	o.pumps.Add(1) // this function's own, so that nobody is the last too soon
	for i, f := range files {
		if f == nil {
			continue
		}
		o.pumps.Add(1)
		go func() {
			defer o.pumpDone()
			o.pump(i, f)
		}()
	}
	o.pumpDone()
}

func (o *output) pumpDone() {
	if o.pumps.Add(-1) == 0 {
		close(o.drained)
	}
}

// pump moves what f delivers into ring i until the end of f or o.abort.
func (o *output) pump(i int, f *os.File) {
	defer o.finish(i)
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	var rerr error
	read := func(fd uintptr) bool {
		rerr = o.fill(i, int(fd))
		return !errors.Is(rerr, syscall.EAGAIN)
	}
	for o.makeRoom(i) {
		// A deadline in the past, set by Process.abandon, ends the wait.
		if err := conn.Read(read); err != nil {
			return
		}
		// Whatever the error is, nothing more can be read: EOF of a pipe,
		// EIO of a terminal whose last slave has been closed.
		if rerr != nil && !errors.Is(rerr, errNoRoom) {
			return
		}
	}
}

// fill reads once into ring i and tells the subscribers.
func (o *output) fill(i, fd int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.rings[i].fill(fd, o.floor(i))
	if err == nil {
		o.wake()
	}
	return err
}

// makeRoom waits until ring i can take something: it grows the ring while it
// may, and then waits for the slowest lossless subscriber. False is abort.
func (o *output) makeRoom(i int) bool {
	r := &o.rings[i]
	for {
		o.mu.Lock()
		size, old := r.nextSize(), len(r.buf)
		forced := size <= minRing
		if size > 0 && (forced || o.budget.now() >= r.retryAt) {
			o.mu.Unlock()
			o.grow(r, old, size, forced)
			continue
		}
		if len(r.buf) == 0 || r.writable(o.floor(i)) > 0 {
			o.mu.Unlock()
			return true
		}
		if r.slack > 0 {
			size, r.slack = old+r.slack, 0
			o.mu.Unlock()
			o.grow(r, old, size, true)
			continue
		}
		if r.space == nil {
			r.space = make(chan struct{}, 1)
		}
		r.blocked = true
		o.mu.Unlock()
		select {
		case <-r.space:
		case <-o.abort:
			return false
		}
	}
}

// grow gives r the capacity size, if the budget allows.
func (o *output) grow(r *ring, old, size int, forced bool) {
	granted := o.budget.acquire(r, o, int64(size-old), forced)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !granted:
		r.retryAt = o.budget.now() + growRetry
	case len(r.buf) != old:
		// The budget took memory from this ring in the meantime.
		o.budget.release(r, int64(size-old), false)
	default:
		r.resize(make([]byte, size))
	}
}

// shrink gives up all that r can spare: bytes which a lossless subscriber has
// not read yet stay.
func (o *output) shrink(r *ring) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keep := uint64(0)
	if floor := o.floor(o.index(r)); floor < r.end {
		keep = r.end - max(floor, r.start)
	}
	o.fit(r, keep)
}

// fit reduces r's capacity to what holds keep bytes, in pages of minRing.
func (o *output) fit(r *ring, keep uint64) {
	size := max(1, int((keep+minRing-1)/minRing)) * minRing
	if size >= len(r.buf) {
		return
	}
	freed := len(r.buf) - size
	r.resize(make([]byte, size))
	o.budget.release(r, int64(freed), false)
}

func (o *output) index(r *ring) int {
	if r == &o.rings[1] {
		return 1
	}
	return 0
}

// floor is the offset of the first byte of ring i that must not be
// overwritten: the slowest lossless subscriber's.
func (o *output) floor(i int) uint64 {
	floor := uint64(math.MaxUint64)
	for _, s := range o.subs {
		if s.lossless && s.want[i] {
			floor = min(floor, s.cursor[i])
		}
	}
	return floor
}

// advanced lets a blocked pump go on once there is room that is worth it.
func (o *output) advanced(i int) {
	r := &o.rings[i]
	if r.blocked && r.writable(o.floor(i)) >= min(len(r.buf)/2, 64<<10) {
		o.unblock(r)
	}
}

func (o *output) unblock(r *ring) {
	r.blocked = false
	select {
	case r.space <- struct{}{}:
	default:
	}
}

// wake makes every subscriber look again.
func (o *output) wake() {
	for _, s := range o.subs {
		s.poke()
	}
}

// finish marks the end of stream i.
func (o *output) finish(i int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &o.rings[i]
	r.eof = true
	if used := r.end - r.start; used < uint64(len(r.buf))/2 {
		o.fit(r, used)
	}
	o.wake()
}

// exiting lets the pumps take, beyond the rings' limits, what a pipe may
// still hold of an ended process, so that a stalled lossless subscriber does
// not keep the exit from everybody else.
func (o *output) exiting(slack int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.rings {
		r := &o.rings[i]
		r.slack = slack
		if r.blocked {
			o.unblock(r)
		}
	}
}

// stalled reports whether a pump waits for a lossless subscriber.
func (o *output) stalled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rings[0].blocked || o.rings[1].blocked
}

// written is how many bytes have been read from the process so far.
func (o *output) written() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rings[0].end + o.rings[1].end
}

// publish hands the exit to the subscribers.
func (o *output) publish(e Exit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.rings {
		r := &o.rings[i]
		r.exitEnd, r.slack = r.end, 0
	}
	o.exit = &e
	o.wake()
}

// detach frees the memory as soon as nobody is subscribed.
func (o *output) detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.detached = true
	o.free()
}

func (o *output) free() {
	if !o.detached || len(o.subs) > 0 {
		return
	}
	for i := range o.rings {
		r := &o.rings[i]
		o.budget.release(r, int64(len(r.buf)), true)
		r.buf, r.start = nil, r.end
	}
}

func (o *output) remove(s *Subscription) {
	if i := slices.Index(o.subs, s); i >= 0 {
		o.subs = slices.Delete(o.subs, i, i+1)
	}
	for i := range o.rings {
		o.advanced(i)
	}
	o.free()
}

func (o *output) info(s Stream) StreamInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &o.rings[s-1]
	return StreamInfo{Start: r.start, End: r.end, EOF: r.eof}
}

// subscribers is how many subscriptions are open.
func (o *output) subscribers() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.subs)
}
