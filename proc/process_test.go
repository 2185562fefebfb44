//go:build linux

package proc

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStdin(t *testing.T) {
	tab := newTable(t, testConfig())
	const size = 16 << 20
	p, sub, _, err := tab.StartAttached(testContext(t), Spec{Args: []string{"cat"}, Stdin: StdinPipe}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	go func() {
		for off := int64(0); off < size; {
			n, err := p.Write(testContext(t), patternAt(uint64(off), size-off))
			if err != nil {
				t.Errorf("write at %d: %v", off, err)
				return
			}
			off += int64(n)
		}
		if err := p.CloseStdin(testContext(t)); err != nil {
			t.Error(err)
		}
	}()
	got, gaps, err := drainPattern(testContext(t), sub, 0)
	if err != nil || got != size || gaps != 0 {
		t.Errorf("got %d, gaps of %d: %v", got, gaps, err)
	}
	if err := p.CloseStdin(testContext(t)); !errors.Is(err, ErrStdinClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := p.Write(testContext(t), []byte("x")); !errors.Is(err, ErrStdinClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestStdinErrors(t *testing.T) {
	tab := newTable(t, testConfig())
	ctx := testContext(t)
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	if _, err := p.Write(ctx, []byte("x")); !errors.Is(err, ErrNoStdin) {
		t.Errorf("without a pipe: %v", err)
	}
	if err := p.CloseStdin(testContext(t)); !errors.Is(err, ErrNoStdin) {
		t.Errorf("close without a pipe: %v", err)
	}

	// The reader closes its end: EPIPE, while the process lives.
	p = mustStart(t, tab, Spec{Script: "exec <&-; echo closed; exec sleep 1000", Shell: "/bin/sh", Stdin: StdinPipe})
	eventually(t, "stdin is closed", func() bool { return p.Info().Stdout.End > 0 })
	if _, err := p.Write(ctx, []byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("nobody reads: %v", err)
	}

	// A full pipe: the context ends the write, and what was written counts.
	p = mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}, Stdin: StdinPipe})
	short, cancel := context.WithCancel(ctx)
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		defer cancel()
		if poll(ctx, func() bool { return pipeHolds(t, p) == pipeCapacity(t, p) }) != nil {
			t.Error("the pipe is never full")
		}
	}()
	n, err := p.Write(short, make([]byte, 1<<20))
	<-filled
	if want := pipeCapacity(t, p); !errors.Is(err, context.Canceled) || n != want {
		t.Errorf("full pipe: %d of %d, %v", n, want, err)
	}
	// The next write is not affected by that deadline, and a close ends it.
	done := make(chan error)
	go func() {
		_, err := p.Write(ctx, []byte("x"))
		done <- err
	}()
	eventually(t, "the write has begun", func() bool { return len(p.inLock) == 1 })
	if err := p.CloseStdin(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrStdinClosed) {
		t.Errorf("closed while writing: %v", err)
	}
}

func TestIdempotentStart(t *testing.T) {
	tab := newTable(t, testConfig())
	spec := Spec{ID: "job-1.a", Args: []string{"sleep", "1000"}, Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	first := map[*Process]int{}
	count := 0
	for range 30 {
		wg.Go(func() {
			p, started, err := tab.Start(testContext(t), spec)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			first[p]++
			if started {
				count++
			}
		})
	}
	wg.Wait()
	if count != 1 || len(first) != 1 {
		t.Errorf("started %d times, %d processes", count, len(first))
	}
	other := spec
	other.Env = []string{"A=2"}
	if _, _, err := tab.Start(testContext(t), other); !errors.Is(err, ErrExists) {
		t.Errorf("another spec: %v", err)
	}
	// An attach by the same call.
	p, sub, started, err := tab.StartAttached(testContext(t), spec, SubscribeOptions{})
	if err != nil || started || sub == nil {
		t.Fatalf("%v, started %v", err, started)
	}
	_ = sub.Close()
	// Still the same when it has ended.
	if err := p.Signal(syscall.SIGKILL, ScopeProcess); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
	if again, started, err := tab.Start(testContext(t), spec); err != nil || started || again != p {
		t.Errorf("after the end: %v, %v", started, err)
	}
	if spec.Env[0] = "A=3"; p.Spec().Env[0] != "A=1" {
		t.Error("the caller's slice is shared")
	}
	// A start that fails leaves the id free.
	bad := Spec{ID: "bad", Args: []string{"/no/such/program"}}
	if _, _, err := tab.Start(testContext(t), bad); err == nil {
		t.Error("started")
	}
	if p, _, err := tab.Start(testContext(t), Spec{ID: "bad", Args: []string{"true"}}); err != nil || p.ID() != "bad" {
		t.Error(err)
	}
}

func TestHandles(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"true"}})
	if validID("id", p.ID()) != nil || p.Handle() != tab.BootID()+"/"+p.ID() {
		t.Errorf("id %q, handle %q", p.ID(), p.Handle())
	}
	for _, id := range []string{p.ID(), p.Handle()} {
		if got, err := tab.Get(id); err != nil || got != p {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := tab.Get("other/" + p.ID()); !errors.Is(err, ErrStale) {
		t.Errorf("stale: %v", err)
	}
	if _, err := tab.Get("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if l := tab.List(); len(l) != 1 || l[0] != p {
		t.Errorf("list: %v", l)
	}
	other := newTable(t, testConfig())
	if _, err := other.Get(p.Handle()); !errors.Is(err, ErrStale) {
		t.Errorf("in another table: %v", err)
	}
}

func TestInfo(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "echo hello", Shell: "/bin/sh", Dir: "/usr", Labels: map[string]string{"a": "b"}, Env: []string{"SECRET=x"}})
	<-p.Finished()
	i := p.Info()
	if i.State != StateExited || i.PID != p.PID() || i.Dir != "/usr" || i.Labels["a"] != "b" || i.TTY || i.TreeAlive ||
		i.UID != uint32(os.Geteuid()) || i.Script != "echo hello" || i.Exit == nil || !i.Exit.Success() ||
		i.Stdout != (StreamInfo{End: 6, EOF: true}) {
		t.Errorf("%+v", i)
	}
}

func TestWaitHonoursContext(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Args: []string{"sleep", "1000"}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := tab.Start(ended, Spec{Args: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// waitingContext says when somebody waits for its end.
type waitingContext struct {
	context.Context
	waits func()
}

func (c waitingContext) Done() <-chan struct{} {
	c.waits()
	return c.Context.Done()
}

// A start that is given up does not take another one of the same id with it.
func TestIdempotentStartGivenUp(t *testing.T) {
	tab := newTable(t, testConfig())
	for range cap(tab.forks) { // no fork has its turn
		tab.forks <- struct{}{}
	}
	spec := Spec{ID: "job", Args: []string{"true"}}
	ctx, giveUp := context.WithCancel(testContext(t))
	first := make(chan error)
	began := make(chan struct{})
	go func() {
		_, _, err := tab.Start(waitingContext{ctx, sync.OnceFunc(func() { close(began) })}, spec)
		first <- err
	}()
	<-began
	joined := make(chan struct{})
	second := make(chan error)
	go func() {
		p, started, err := tab.Start(waitingContext{testContext(t), sync.OnceFunc(func() { close(joined) })}, spec)
		if err == nil && (!started || p.ID() != "job") {
			err = errors.New("it is another process")
		}
		second <- err
	}()
	<-joined
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	for range cap(tab.forks) {
		<-tab.forks
	}
	if err := <-second; err != nil {
		t.Errorf("not given up: %v", err)
	}
}
