//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// TestExecClientGone cancels the stream at every point of an exec, and looks at
// what becomes of the process.
func TestExecClientGone(t *testing.T) {
	const text = `echo one; read a; echo two; read b; echo three; exec sleep 300`
	points := []struct {
		name string
		upTo func(t *testing.T, x *execStream)
	}{
		{"after start", func(*testing.T, *execStream) {}},
		{"after started", func(t *testing.T, x *execStream) { x.untilStarted(t) }},
		{"after output", func(t *testing.T, x *execStream) { x.untilOutput(t, "one") }},
		{"after stdin", func(t *testing.T, x *execStream) { x.send(t, stdinRequest([]byte("a\n"))) }},
		{"after more output", func(t *testing.T, x *execStream) {
			x.send(t, stdinRequest([]byte("a\n")))
			x.untilOutput(t, "two")
		}},
		{"after half-close", func(t *testing.T, x *execStream) {
			x.send(t, stdinRequest([]byte("a\nb\n")))
			_ = x.CloseSend()
			x.untilOutput(t, "three")
		}},
		{"in the middle of unread stdin", func(t *testing.T, x *execStream) {
			x.untilStarted(t)
			for range 8 {
				x.send(t, stdinRequest(make([]byte, 128<<10)))
			}
		}},
	}
	for _, kill := range []bool{false, true} {
		for _, point := range points {
			t.Run(fmt.Sprintf("%s/kill=%v", point.name, kill), func(t *testing.T) {
				a := serve(t, Config{})
				spec := script(text)
				spec.Id, spec.Stdin = "victim", true
				first := startRequest(spec)
				if kill {
					first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
				}
				x := a.exec(t, first)
				point.upTo(t, x)
				x.cancel()
				if err := x.finish(); status.Code(err) != codes.Canceled {
					t.Errorf("got %v", err)
				}
				if kill {
					a.stopped(t)
					return
				}
				if x.started == nil {
					return // whether it was started depends
				}
				got, err := a.Get(testContext(t), &guestdv1.GetRequest{Process: "victim"})
				if err != nil || got.Process.State != guestdv1.ProcessState_PROCESS_STATE_RUNNING {
					t.Errorf("afterwards: %v, %v", got, err)
				}
			})
		}
	}
}

// TestExecKillGrace: what ignores the hang-up is killed.
func TestExecKillGrace(t *testing.T) {
	a := serve(t, Config{})
	spec := script(`trap "" HUP TERM; (while :; do sleep 0.05; done) & echo ready; wait; while :; do sleep 0.05; done`)
	spec.KillGrace = durationpb.New(1)
	first := startRequest(spec)
	first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	x := a.exec(t, first)
	x.untilOutput(t, "ready")
	x.cancel()
	a.stopped(t)
}

// TestExecConnectionCut loses the connection without a word.
func TestExecConnectionCut(t *testing.T) {
	a := serve(t, Config{})
	conn := a.dial(t)
	stream, err := guestdv1.NewProcessServiceClient(conn).Exec(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	first := startRequest(script("echo ready; sleep 300"))
	first.GetStart().OnDisconnect = guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	if err := stream.Send(first); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	a.stopped(t)
}

// TestExecSlowReader: a lossless reader that stops holds its own process up
// and nobody else; an observer that stops holds nobody up.
func TestExecSlowReader(t *testing.T) {
	a := serve(t, Config{})
	const size = 32 << 20
	slow := a.exec(t, startRequest(script(fmt.Sprintf("head -c %d /dev/zero; echo done >&2", size))))
	id := slow.untilStarted(t).Id
	// It is held up when the flow control of the stream and the ring are
	// full: the offset no longer moves though bytes are missing.
	get := func() *guestdv1.Process {
		got, err := a.Get(testContext(t), &guestdv1.GetRequest{Process: id})
		if err != nil {
			t.Fatal(err)
		}
		return got.Process
	}
	var before uint64
	still := 0
	eventually(t, "the process is held up", func() bool {
		now := get().StdoutEnd
		if now == before && now > 0 {
			still++
		} else {
			still = 0
		}
		before = now
		return still > 5
	})
	if before >= size {
		t.Fatalf("all of %d bytes went nowhere", before)
	}

	quick := a.exec(t, startRequest(script("head -c 5000000 /dev/zero")))
	quick.wantExit(t, 0)
	if quick.stdout.Len() != 5000000 {
		t.Errorf("beside a slow reader got %d bytes", quick.stdout.Len())
	}

	slow.wantExit(t, 0)
	if slow.stdout.Len() != size || len(slow.gaps) != 0 || slow.stderr.String() != "done\n" {
		t.Errorf("slow reader got %d bytes, gaps %v, %q", slow.stdout.Len(), slow.gaps, slow.stderr.String())
	}

	first := startRequest(script(fmt.Sprintf("head -c %d /dev/zero", size)))
	first.GetStart().Mode = guestdv1.SubscribeMode_SUBSCRIBE_MODE_OBSERVER
	observer := a.exec(t, first)
	id = observer.untilStarted(t).Id
	if _, err := a.Wait(testContext(t), &guestdv1.WaitRequest{Process: id}); err != nil {
		t.Fatal(err)
	}
	observer.wantExit(t, 0)
	var missed uint64
	for _, gap := range observer.gaps {
		missed += gap.Bytes
	}
	if missed == 0 || missed+uint64(observer.stdout.Len()) != size {
		t.Errorf("observer got %d bytes and gaps of %d, of %d", observer.stdout.Len(), missed, size)
	}
}

// TestExecThousand runs a thousand at once on one connection.
func TestExecThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: starts 1,000 processes")
	}
	a := serve(t, Config{})
	const n = 1000
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var running sync.WaitGroup
	errs := make(chan error, n)
	release := make(chan struct{})
	var ready sync.WaitGroup
	ready.Add(n)
	for i := range n {
		running.Go(func() {
			errs <- execEcho(ctx, a, fmt.Sprint("line ", i, "\n"), ready.Done, release)
		})
	}
	all := make(chan struct{})
	go func() {
		ready.Wait()
		close(all)
	}()
	select {
	case <-all:
		if running := a.server.config.Processes.Stats().Running; running != n {
			t.Errorf("%d of %d run at once", running, n)
		}
	case <-ctx.Done():
		t.Error("not all have started")
	}
	close(release)
	running.Wait()
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	a.stopped(t)
}

// execEcho runs cat, calls started, and after release sends line through it.
func execEcho(ctx context.Context, a *testAgent, line string, started func(), release <-chan struct{}) error {
	once := sync.OnceFunc(started)
	defer once()
	stream, err := a.Exec(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(startRequest(&guestdv1.ProcessSpec{Args: []string{"cat"}, Stdin: true})); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	once()
	<-release
	if err := errors.Join(stream.Send(stdinRequest([]byte(line))), stream.Send(eofRequest())); err != nil {
		return err
	}
	x := &execStream{ProcessService_ExecClient: stream}
	if err := x.finish(); err != nil {
		return err
	}
	if x.stdout.String() != line || x.exit == nil || x.exit.Code != 0 {
		return fmt.Errorf("got %q, %v, want %q", x.stdout.String(), x.exit, line)
	}
	return nil
}
