//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// drainPattern reads a subscription to its end and checks every byte of
// stdout against the pattern. It returns how much came and how much was
// missed.
func drainPattern(ctx context.Context, sub *Subscription, from uint64) (got, gaps uint64, err error) {
	buf := make([]byte, 256<<10)
	next := from
	for {
		ev, err := sub.Next(ctx, buf)
		switch {
		case errors.Is(err, io.EOF):
			return got, gaps, nil
		case err != nil:
			return got, gaps, err
		case ev.Exit != nil:
			continue
		}
		if ev.Offset != next+ev.Gap {
			return got, gaps, fmt.Errorf("offset %d after %d with a gap of %d", ev.Offset, next, ev.Gap)
		}
		if !isPattern(ev.Offset, ev.Data) {
			return got, gaps, fmt.Errorf("wrong bytes at %d", ev.Offset)
		}
		next = ev.Offset + uint64(len(ev.Data))
		got += uint64(len(ev.Data))
		gaps += ev.Gap
	}
}

func flood(t testing.TB, n int64) Spec {
	return Spec{Args: helperArgs(t, "flood", strconv.FormatInt(n, 10)), Stderr: OutputDiscard}
}

func TestLargeOutput(t *testing.T) {
	size := int64(2 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	tab := newTable(t, testConfig())
	p, sub, _, err := tab.StartAttached(testContext(t), flood(t, size), SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	got, gaps, err := drainPattern(testContext(t), sub, 0)
	if err != nil || got != uint64(size) || gaps != 0 {
		t.Errorf("got %d of %d bytes, gaps of %d: %v", got, size, gaps, err)
	}
	if e := mustWait(t, p); !e.Success() {
		t.Errorf("exit %+v", e)
	}
	if kept := tab.Stats().RingBytes; kept > DefaultRingSize+minRing {
		t.Errorf("%d bytes are kept", kept)
	}
}

// Several lossless subscribers and observers of one process: the process goes
// at the pace of the slowest lossless one, the observers know what they missed.
func TestManySubscribers(t *testing.T) {
	const size = 32 << 20
	cfg := testConfig()
	cfg.RingSize = 64 << 10
	tab := newTable(t, cfg)
	p, first, _, err := tab.StartAttached(testContext(t), flood(t, size), SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 6 {
		sub, lossless := first, true
		if i > 0 {
			lossless = i%2 == 0
			if sub, err = p.Subscribe(SubscribeOptions{Lossless: lossless}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			defer func() { _ = sub.Close() }()
			got, gaps, err := drainPattern(testContext(t), sub, 0)
			if err != nil || got+gaps != size || lossless && gaps != 0 {
				t.Errorf("subscriber %d: %d bytes, gaps of %d: %v", i, got, gaps, err)
			}
		})
	}
	wg.Wait()
}

// A lossless reader that stops: its process waits, other processes do not, an
// observer and the exit are not held up, and when it goes on it misses nothing.
func TestReaderStops(t *testing.T) {
	cfg := testConfig()
	cfg.RingSize = 32 << 10
	tab := newTable(t, cfg)
	const size = 4 << 20
	p, stalled, _, err := tab.StartAttached(testContext(t), flood(t, size), SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stalled.Close() }()
	eventually(t, "the ring is full", func() bool { return p.Info().Stdout.End == 32<<10 })
	for range 20 {
		if out, _, _ := run(t, tab, Spec{Args: []string{"echo", "x"}}); out != "x\n" {
			t.Fatalf("another process printed %q", out)
		}
	}
	observer, err := p.Subscribe(SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = observer.Close() }()
	if ev, err := observer.Next(testContext(t), make([]byte, 10)); err != nil || !isPattern(0, ev.Data) || len(ev.Data) != 10 {
		t.Fatalf("observer: %+v, %v", ev, err)
	}
	if end := p.Info().Stdout.End; end != 32<<10 {
		t.Fatalf("the ring grew to %d behind a stalled reader", end)
	}
	// Killed while it waits: what it had written is still delivered.
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL || e.OutputHeld {
		t.Errorf("exit %+v", e)
	}
	got, gaps, err := drainPattern(testContext(t), stalled, 0)
	if err != nil || gaps != 0 || got < 32<<10 || got != p.Info().Stdout.End {
		t.Errorf("got %d of %+v, gaps of %d: %v", got, p.Info().Stdout, gaps, err)
	}
}

// With nobody attached the process does not block, and the newest bytes stay;
// whoever comes later is told what is missing.
func TestNobodyAttached(t *testing.T) {
	cfg := testConfig()
	cfg.RingSize = 64 << 10
	tab := newTable(t, cfg)
	const size = 8<<20 + 123
	p := mustStart(t, tab, flood(t, size))
	if e := mustWait(t, p); !e.Success() {
		t.Fatalf("exit %+v", e)
	}
	if s := p.Info().Stdout; s != (StreamInfo{Start: size - 64<<10, End: size, EOF: true}) {
		t.Errorf("ring %+v", s)
	}
	for from, want := range map[uint64]uint64{0: 64 << 10, size - 100: 100, size: 0} {
		sub, err := p.Subscribe(SubscribeOptions{Stdout: int64(from), Lossless: true})
		if err != nil {
			t.Fatal(err)
		}
		got, gaps, err := drainPattern(testContext(t), sub, from)
		if err != nil || got != want || got+gaps != size-from {
			t.Errorf("from %d: got %d, gaps of %d: %v", from, got, gaps, err)
		}
		_ = sub.Close()
	}
	if _, err := p.Subscribe(SubscribeOptions{Stdout: size + 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := p.Subscribe(SubscribeOptions{Stderr: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond the end of a stream that is not there: %v", err)
	}
}

func TestReattach(t *testing.T) {
	tab := newTable(t, testConfig())
	p, sub, _, err := tab.StartAttached(testContext(t),
		Spec{Args: []string{"cat"}, Stdin: StdinPipe}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	buf := make([]byte, 4)
	write := func(s string) {
		t.Helper()
		if n, err := p.Write(ctx, []byte(s)); err != nil || n != len(s) {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	write("0123456789")
	ev, err := sub.Next(ctx, buf)
	if err != nil || string(ev.Data) != "0123" || ev.Offset != 0 {
		t.Fatalf("%+v, %v", ev, err)
	}
	_ = sub.Close()
	if _, err := sub.Next(ctx, buf); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	live, err := p.Subscribe(SubscribeOptions{Stdout: FromNow, Stderr: NoStream})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	again, err := p.Subscribe(SubscribeOptions{Stdout: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	write("abc")
	if err := p.CloseStdin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if out, _, e := collect(t, again); out != "456789abc" || e == nil {
		t.Errorf("reattached: %q, %v", out, e)
	}
	if out, _, e := collect(t, live); out != "abc" || e == nil {
		t.Errorf("from now: %q, %v", out, e)
	}
}

func TestNextHonoursContext(t *testing.T) {
	tab := newTable(t, testConfig())
	p, sub, _, err := tab.StartAttached(testContext(t), Spec{Args: []string{"cat"}, Stdin: StdinPipe}, SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sub.Next(ctx, make([]byte, 10)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := sub.Next(testContext(t), nil); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := p.Write(testContext(t), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if ev, err := sub.Next(testContext(t), make([]byte, 10)); err != nil || string(ev.Data) != "x" {
		t.Fatalf("%+v, %v", ev, err)
	}
}

func TestClosesStdoutEarly(t *testing.T) {
	tab := newTable(t, testConfig())
	p, sub, _, err := tab.StartAttached(testContext(t), Spec{
		Script: "echo bye; exec >&- 2>&-; read x; exit 7", Shell: "/bin/sh", Stdin: StdinPipe,
	}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	eventually(t, "both streams end", func() bool { i := p.Info(); return i.Stdout.EOF && i.Stderr.EOF })
	if i := p.Info(); i.State != StateRunning || i.Exit != nil {
		t.Errorf("%+v", i)
	}
	if err := p.CloseStdin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if out, _, e := collect(t, sub); out != "bye\n" || e == nil || e.Code != 7 {
		t.Errorf("%q, %+v", out, e)
	}
}

// The exit does not wait for a grandchild that holds the pipe, and says so;
// what the grandchild prints still comes.
func TestOutputHeld(t *testing.T) {
	tab := newTable(t, testConfig())
	p, sub, _, err := tab.StartAttached(testContext(t), Spec{
		Script: "exec 3<&0; (read go <&3; echo late) & echo early", Shell: "/bin/sh", Stdin: StdinPipe,
	}, SubscribeOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	if e := mustWait(t, p); !e.OutputHeld || !e.Success() {
		t.Fatalf("exit %+v", e)
	}
	ctx, buf := testContext(t), make([]byte, 100)
	if ev, err := sub.Next(ctx, buf); err != nil || string(ev.Data) != "early\n" {
		t.Fatalf("%+v, %v", ev, err)
	}
	if ev, err := sub.Next(ctx, buf); err != nil || ev.Exit == nil || !ev.Exit.OutputHeld {
		t.Fatalf("%+v, %v", ev, err)
	}
	if i := p.Info(); i.State != StateExited || !i.TreeAlive || tab.Stats().Lingering != 1 {
		t.Errorf("%+v, %+v", i, tab.Stats())
	}
	if _, err := p.Write(ctx, []byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if ev, err := sub.Next(ctx, buf); err != nil || string(ev.Data) != "late\n" {
		t.Fatalf("%+v, %v", ev, err)
	}
	if _, err := sub.Next(ctx, buf); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	<-p.Finished()
	if p.Info().TreeAlive {
		t.Error("the tree is said to be alive")
	}
}

// A grandchild that never stops printing does not hold the exit up either.
func TestOutputHeldByChatter(t *testing.T) {
	tab := newTable(t, testConfig())
	args := helperArgs(t, "chatty")
	p := mustStart(t, tab, Spec{Script: "'" + strings.Join(args, "' '") + "' & exit 5", Shell: "/bin/sh"})
	if e := mustWait(t, p); !e.OutputHeld || e.Code != 5 {
		t.Errorf("exit %+v", e)
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	<-p.Finished()
}

// 1,000 chatty processes with nobody reading: memory is bounded, none blocks.
func TestChattyCrowd(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	cfg := testConfig()
	cfg.RingTotal = int64(n) * 32 << 10 // half of what they would take
	tab := newTable(t, cfg)
	var procs []*Process
	for i := range n {
		script := "head -c 40000 /dev/zero; exec sleep 1000"
		if i < 4 {
			script = "while :; do head -c 40000 /dev/zero; done"
		}
		procs = append(procs, mustStart(t, tab, Spec{Script: script, Shell: "/bin/sh"}))
	}
	for _, p := range procs {
		eventually(t, "every process has printed", func() bool { return p.Info().Stdout.End >= 40000 })
	}
	used, most := tab.Stats().RingBytes, cfg.RingTotal+int64(n)*minRing
	if used > most || used < cfg.RingTotal/2 {
		t.Errorf("%d bytes of rings, not between %d and %d", used, cfg.RingTotal/2, most)
	}
	for _, p := range procs {
		if s := p.Info().Stdout; s.End-s.Start < minRing {
			t.Errorf("process %s keeps only %+v", p.ID(), s)
		}
	}
}

// However little time there is for it, what a process printed before its exit
// comes before the exit: that the pump has not had its turn is no silence.
func TestExitAfterOutput(t *testing.T) {
	tab := newTable(t, Config{Drain: time.Nanosecond})
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			want := fmt.Sprintf("%d\n", i)
			spec := Spec{Args: []string{"/bin/sh", "-c", fmt.Sprintf("echo %d", i)}, Stdout: OutputPipe}
			_, sub, _, err := tab.StartAttached(testContext(t), spec, SubscribeOptions{Lossless: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = sub.Close() }()
			got, buf := "", make([]byte, 100)
			for {
				ev, err := sub.Next(testContext(t), buf)
				if err != nil {
					t.Error(err)
					return
				}
				if ev.Exit != nil {
					break
				}
				got += string(ev.Data)
			}
			if got != want {
				t.Errorf("%q was there at the exit, want %q", got, want)
			}
		})
	}
	all.Wait()
}

// A pump that has read everything but is long in seeing the end is not somebody
// who holds the output.
func TestExitWaitsForALatePump(t *testing.T) {
	cfg := testConfig()
	cfg.Drain = time.Millisecond
	tab := newTable(t, cfg)
	p := mustStart(t, tab, Spec{Args: []string{"cat"}, Stdin: StdinPipe})
	write := func(n int) {
		t.Helper()
		end := p.Info().Stdout.End + uint64(n)
		if _, err := p.Write(testContext(t), make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is printed", func() bool { return p.Info().Stdout.End == end })
	}
	write(1)
	// A full ring asks for more before it is read into again.
	tab.budget.mu.Lock()
	write(minRing - 1)
	if err := p.CloseStdin(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
	case <-time.After(20 * drainBound * cfg.Drain):
	}
	tab.budget.mu.Unlock()
	if e := mustWait(t, p); e.OutputHeld || !e.Success() {
		t.Errorf("exit %+v", e)
	}
}
