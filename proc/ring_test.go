//go:build linux

package proc

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// put fills a ring through a real pipe, as a pump does.
func put(t testing.TB, o *output, i int, data []byte) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	conn, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = w.Write(data)
		_ = w.Close()
	}()
	for {
		if !o.makeRoom(i) {
			t.Fatal("aborted")
		}
		var rerr error
		if err := conn.Read(func(fd uintptr) bool {
			rerr = o.fill(i, int(fd))
			return !errors.Is(rerr, unix.EAGAIN)
		}); err != nil {
			t.Fatal(err)
		}
		if errors.Is(rerr, io.EOF) {
			return
		}
		if rerr != nil && !errors.Is(rerr, errNoRoom) {
			t.Fatal(rerr)
		}
	}
}

// A look that falls between a writer's last write and its end must not take
// what was written for nothing.
func TestRingLastWords(t *testing.T) {
	writers := make(chan int)
	defer close(writers)
	go func() {
		runtime.LockOSThread()
		for fd := range writers {
			_, _ = unix.Write(fd, []byte("!"))
			_ = unix.Close(fd)
		}
	}()
	for round := range 30_000 {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		writers <- ends[1]
		var r ring
		_, err := r.fill(ends[0], 0)
		for errors.Is(err, unix.EAGAIN) {
			_, err = r.fill(ends[0], 0)
		}
		_ = unix.Close(ends[0])
		if !errors.Is(err, errNoRoom) {
			t.Fatalf("round %d: %v, and a byte was written", round, err)
		}
	}
}

func newTestOutput(b *budget, size int) *output {
	o := newOutput(b, size)
	o.open(Stdout)
	return o
}

// The bound holds, the ring read least recently gives way, one that was read
// as recently does not, and what a lossless subscriber has not read stays.
func TestBudget(t *testing.T) {
	const size = 64 << 10
	b := newBudget(3 * size)
	chunk := patternAt(0, size)
	outs := make([]*output, 3)
	for i := range outs {
		outs[i] = newTestOutput(b, size)
		put(t, outs[i], 0, chunk)
		// The clock of the test: the last one was read last.
		outs[i].rings[0].lastRead.Store(int64(i) * int64(10*time.Second))
	}
	lossless, err := outs[0].subscribe(SubscribeOptions{Lossless: true, Stdout: size - 6<<10})
	if err != nil {
		t.Fatal(err)
	}
	outs[0].rings[0].lastRead.Store(0)
	held := func(i int) int64 { return outs[i].rings[0].size.Load() }

	late := newTestOutput(b, size)
	late.rings[0].lastRead.Store(int64(15 * time.Second))
	put(t, late, 0, chunk)
	if got := late.rings[0].size.Load(); got != size {
		t.Errorf("the newest has %d bytes", got)
	}
	if held(0) != 2*minRing || held(1) != minRing || held(2) != size {
		t.Errorf("the others have %d, %d, %d bytes", held(0), held(1), held(2))
	}
	if used := b.total(); used > b.limit || used != held(0)+held(1)+held(2)+size {
		t.Errorf("%d bytes are used of %d", used, b.limit)
	}
	buf := make([]byte, size)
	ev, err := lossless.Next(testContext(t), buf)
	if err != nil || ev.Gap != 0 || ev.Offset != size-6<<10 || len(ev.Data) != 6<<10 || !isPattern(ev.Offset, ev.Data) {
		t.Errorf("lossless: offset %d, %d bytes, gap %d, %v", ev.Offset, len(ev.Data), ev.Gap, err)
	}
	observer, err := outs[1].subscribe(SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ev, err = observer.Next(testContext(t), buf)
	if err != nil || ev.Gap != size-minRing || len(ev.Data) != minRing || !isPattern(ev.Offset, ev.Data) {
		t.Errorf("observer: offset %d, %d bytes, gap %d, %v", ev.Offset, len(ev.Data), ev.Gap, err)
	}
	// One that was never read takes nothing from those that were.
	old := newTestOutput(b, size)
	old.rings[0].lastRead.Store(0)
	put(t, old, 0, chunk)
	if used := b.total(); used > b.limit {
		t.Errorf("%d bytes are used of %d", used, b.limit)
	}
	if held(2) != size {
		t.Error("an unread ring took memory from one that is read")
	}
	for _, o := range append(outs, late, old) {
		for _, s := range append([]*Subscription{}, o.subs...) {
			_ = s.Close()
		}
		o.detach()
	}
	if used := b.total(); used != 0 || len(b.rings) != 0 {
		t.Errorf("%d bytes and %d rings are left", used, len(b.rings))
	}
}

// A ring holds nothing before the first byte, and little for little output.
func TestRingIsLazy(t *testing.T) {
	b := newBudget(1 << 20)
	o := newTestOutput(b, 1<<20)
	put(t, o, 0, nil)
	if used := b.total(); used != 0 {
		t.Errorf("%d bytes for no output", used)
	}
	put(t, o, 0, []byte("hi"))
	if used := b.total(); used != minRing {
		t.Errorf("%d bytes for two", used)
	}
}

// FuzzRing runs a ring against a plain byte slice: whatever is written, read
// and resized, the ring has the newest bytes of the stream.
func FuzzRing(f *testing.F) {
	f.Add([]byte{10, 200, 3, 90, 7, 255, 0, 64})
	f.Add([]byte{0, 0, 1, 1, 2, 2, 3, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := make([]int, 2)
		if err := unix.Pipe2(p, unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) }()
		r := &ring{limit: 1 << 10, buf: make([]byte, 64)}
		var stream []byte
		for len(ops) >= 2 {
			op, arg := ops[0], int(ops[1])
			ops = ops[2:]
			switch op % 3 {
			case 0: // write and fill
				data := make([]byte, arg)
				for i := range data {
					data[i] = byte(len(stream) + i)
				}
				if _, err := unix.Write(p[1], data); err != nil {
					t.Fatal(err)
				}
				for {
					n, err := r.fill(p[0], math.MaxUint64)
					if errors.Is(err, unix.EAGAIN) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					stream = append(stream, data[:n]...)
					data = data[n:]
				}
			case 1:
				r.resize(make([]byte, 1+arg*4))
			case 2: // a floor keeps what it protects
				floor := r.start + uint64(arg)%max(1, r.end-r.start+1)
				free := r.writable(floor)
				if want := len(r.buf) - int(r.end-min(floor, r.end)); free != want && floor < r.end {
					t.Fatalf("writable(%d) = %d, want %d", floor, free, want)
				}
			}
			if r.end != uint64(len(stream)) || r.end-r.start > uint64(len(r.buf)) {
				t.Fatalf("start %d, end %d, capacity %d after %d bytes", r.start, r.end, len(r.buf), len(stream))
			}
			got := make([]byte, r.end-r.start)
			if n := r.copyFrom(r.start, got); n != len(got) || !bytes.Equal(got, stream[r.start:]) {
				t.Fatalf("the ring has other bytes than the stream's newest %d", len(got))
			}
		}
	})
}
