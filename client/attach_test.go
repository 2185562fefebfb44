//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// counter is a script whose output of n lines is known.
func counter(n int) (script string, sum [32]byte, size int) {
	var want bytes.Buffer
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&want, "%d\n", i)
	}
	return fmt.Sprintf("seq %d", n), sha256.Sum256(want.Bytes()), want.Len()
}

func TestStartIsIdempotent(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	spec := client.Spec{ID: "mine", Args: []string{"sleep", "1000"}, Labels: map[string]string{"a": "b"}}
	first := must[*client.Process](t)(c.Start(ctx, spec))
	l.cut()
	second := must[*client.Process](t)(c.Start(ctx, spec))
	if first.ID() != "mine" || first.PID() != second.PID() || first.Handle() != second.Handle() {
		t.Errorf("%v %v", first, second)
	}
	spec.Args[1] = "2000"
	if _, err := c.Start(ctx, spec); err == nil {
		t.Error("another program under the same id")
	}
	infos := must[[]client.ProcessInfo](t)(c.Processes(ctx))
	if len(infos) != 1 || !infos[0].Running() || infos[0].Spec.Labels["a"] != "b" || infos[0].PID != first.PID() {
		t.Errorf("%+v", infos)
	}
	if err := first.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	result := must[client.WaitResult](t)(first.Wait(ctx))
	if result.Exit == nil || result.Exit.Signal != client.SIGKILL {
		t.Errorf("%+v", result)
	}
	// What it started may be a moment longer in dying than itself.
	for err := first.Forget(ctx); err != nil; err = first.Forget(ctx) {
		if !errors.Is(err, client.ErrInvalidRequest) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.Info(ctx); !errors.Is(err, client.ErrProcessNotFound) {
		t.Errorf("%v", err)
	}
}

func TestHandleOfAnotherBoot(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{Args: []string{"true"}}))
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	boot := info.GetBootId()
	other := strings.Replace(p.Handle(), boot, "00000000-0000-4000-8000-000000000000", 1)
	if other == p.Handle() {
		t.Fatalf("handle %s has no boot id", other)
	}
	if _, err := c.Process(other).Info(ctx); !errors.Is(err, client.ErrStaleHandle) {
		t.Errorf("%v", err)
	}
}

func TestAttachReadsWhatWasKept(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{Shell: "/bin/sh", Script: "echo out; echo err >&2; exit 3"}))
	must[client.WaitResult](t)(p.Wait(ctx))
	a := must[*client.Attachment](t)(c.Process(p.ID()).Attach(ctx, client.AttachOptions{}))
	closeLater(t, a)
	var stdout, stderr bytes.Buffer
	exit, err := a.CopyTo(&stdout, &stderr)
	if err != nil || exit == nil || exit.Code != 3 || stdout.String() != "out\n" || stderr.String() != "err\n" {
		t.Errorf("%v %v %q %q", exit, err, &stdout, &stderr)
	}
	if got := a.Offsets(); got != (client.Offsets{Stdout: 4, Stderr: 4}) {
		t.Errorf("%+v", got)
	}
	// From the middle.
	b := must[*client.Attachment](t)(p.Attach(ctx, client.AttachOptions{From: &client.Offsets{Stdout: 2, Stderr: 4}, NoFollow: true}))
	closeLater(t, b)
	stdout.Reset()
	stderr.Reset()
	if _, err := b.CopyTo(&stdout, &stderr); err != nil || stdout.String() != "t\n" || stderr.Len() != 0 {
		t.Errorf("%v %q %q", err, &stdout, &stderr)
	}
}

func TestAttachInput(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{Args: []string{"cat"}, OpenStdin: true}))
	in := bytes.Repeat([]byte("0123456789abcdef"), 40<<10)
	a := must[*client.Attachment](t)(p.Attach(ctx, client.AttachOptions{Lossless: true}))
	closeLater(t, a)
	written := make(chan error, 1)
	go func() {
		if err := p.WriteInput(ctx, in); err != nil {
			written <- err
			return
		}
		written <- p.CloseInput(ctx)
	}()
	var out bytes.Buffer
	exit, err := a.CopyTo(&out, nil)
	if err != nil || exit == nil || !exit.Success() || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("%v, %v, %d bytes", exit, err, out.Len())
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := p.WriteInput(ctx, []byte("x")); !errors.Is(err, client.ErrProcessEnded) {
		t.Errorf("%v", err)
	}
}

func TestObserverIsToldWhatItMissed(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{Shell: "/bin/sh", Script: "seq 400000", OutputBuffer: 64 << 10}))
	must[client.WaitResult](t)(p.Wait(ctx))
	a := must[*client.Attachment](t)(p.Attach(ctx, client.AttachOptions{From: &client.Offsets{}}))
	closeLater(t, a)
	_, err := a.CopyTo(io.Discard, nil)
	gap, ok := errors.AsType[*client.GapError](err)
	if !ok || !errors.Is(err, client.ErrOutputLost) || gap.Gap.Stream != client.Stdout || gap.Gap.Offset != 0 || gap.Gap.Bytes == 0 {
		t.Fatalf("%#v", err)
	}
	var rest bytes.Buffer
	if _, err := a.CopyTo(&rest, nil); err != nil {
		t.Fatal(err)
	}
	_, _, size := counter(400_000)
	if uint64(rest.Len())+gap.Gap.Bytes != uint64(size) || !bytes.HasSuffix(rest.Bytes(), []byte("\n399999\n400000\n")) {
		t.Errorf("%d bytes and %d missing, of %d", rest.Len(), gap.Gap.Bytes, size)
	}
}

// Wherever the connection is cut, every byte arrives once.
func TestCmdSurvivesCuts(t *testing.T) {
	c, l := live(t)
	script, want, size := counter(200_000)
	for round := range 8 {
		var cuts []int
		for left := size; left > 0; {
			// Some within the handshake and headers, some far in.
			n := 1 + rand.IntN(600)
			if rand.IntN(4) != 0 {
				n = 1 + rand.IntN(size/3)
			}
			cuts = append(cuts, n)
			left -= n
		}
		l.cutAfter(cuts[:min(len(cuts), 12)]...)
		if err := c.Ready(within(t)); err != nil {
			t.Fatal(err)
		}
		cmd := sh(c, script)
		cmd.OutputBuffer = 4 << 20
		sum := sha256.New()
		n := &countWriter{to: sum}
		cmd.Stdout = n
		if err := cmd.Run(within(t)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if n.n != size || [32]byte(sum.Sum(nil)) != want {
			t.Errorf("round %d, cuts %d: %d bytes, want %d, or others", round, cuts, n.n, size)
		}
	}
	if l.connections() < 10 {
		t.Errorf("only %d connections: nothing was cut", l.connections())
	}
}

// A connection that is gone is as good as one that breaks while it is made.
func TestStartOverConnectionsThatBreakAtOnce(t *testing.T) {
	c, l := live(t)
	for n := range 60 { // bytes: up to the middle of the first answer
		if err := c.Ready(within(t)); err != nil {
			t.Fatal(err)
		}
		l.cutAfter(n + 1)
		if err := c.Command("true").Run(within(t)); err != nil {
			t.Errorf("run, cut after %d: %v", n+1, err)
		}
		l.cutAfter(n + 1)
		if _, err := c.WaitFor(within(t), client.WaitFile{Path: "/"}); err != nil {
			t.Errorf("wait, cut after %d: %v", n+1, err)
		}
	}
}

type countWriter struct {
	to hash.Hash
	n  int
}

func (w *countWriter) Write(p []byte) (int, error) {
	w.n += len(p)
	return w.to.Write(p)
}

func TestAttachSurvivesCuts(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	const lines = 3000
	script := fmt.Sprintf(`i=1; while [ $i -le %d ]; do echo $i; echo e$i >&2; i=$((i+1)); done`, lines)
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{Shell: "/bin/sh", Script: script, OutputBuffer: 4 << 20}))
	a := must[*client.Attachment](t)(p.Attach(ctx, client.AttachOptions{Lossless: true}))
	closeLater(t, a)
	var stdout, stderr, wantOut, wantErr bytes.Buffer
	for i := 1; i <= lines; i++ {
		fmt.Fprintf(&wantOut, "%d\n", i)
		fmt.Fprintf(&wantErr, "e%d\n", i)
	}
	cuts := 0
	var exit *client.ExitStatus
	for event, err := range a.Events() {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case event.Gap != nil:
			t.Fatalf("gap %+v", event.Gap)
		case event.Exit != nil:
			exit = event.Exit
		case event.Stream == client.Stdout:
			if event.Offset != uint64(stdout.Len()) {
				t.Fatalf("offset %d after %d bytes", event.Offset, stdout.Len())
			}
			stdout.Write(event.Data)
		default:
			stderr.Write(event.Data)
		}
		if cuts < 40 && rand.IntN(3) == 0 {
			l.cut()
			cuts++
		}
	}
	if exit == nil || !exit.Success() || !bytes.Equal(stdout.Bytes(), wantOut.Bytes()) || !bytes.Equal(stderr.Bytes(), wantErr.Bytes()) {
		t.Errorf("%v, %d of %d and %d of %d bytes, or others, after %d cuts",
			exit, stdout.Len(), wantOut.Len(), stderr.Len(), wantErr.Len(), cuts)
	}
}

func TestNoReattach(t *testing.T) {
	c, l := live(t)
	cmd := sh(c, "echo ready; exec sleep 1000")
	cmd.NoReattach = true
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		l.cut()
		return len(p), nil
	})
	ctx := within(t)
	err := cmd.Run(ctx)
	lost, ok := errors.AsType[*client.ConnectionError](err)
	if !ok || !errors.Is(err, client.ErrUnavailable) || !lost.Lost {
		t.Errorf("%#v", err)
	}
	// It was to be kept.
	if info, err := cmd.Process.Info(ctx); err != nil || !info.Running() {
		t.Errorf("%+v, %v", info, err)
	}
	if err := cmd.Process.Kill(ctx); err != nil {
		t.Error(err)
	}
}

func TestKillOnDisconnect(t *testing.T) {
	c, l := live(t)
	cmd := sh(c, "echo ready; exec sleep 1000")
	cmd.OnDisconnect = client.KillTree
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		l.cut()
		return len(p), nil
	})
	ctx := within(t)
	if err := cmd.Run(ctx); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	result, err := cmd.Process.Wait(ctx)
	if err != nil || result.Exit == nil || result.Exit.Signal == "" {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestReattachGivesUp(t *testing.T) {
	c, l := liveWith(t, client.Config{ReattachTimeout: 300 * time.Millisecond})
	cmd := sh(c, "echo ready; exec sleep 1000")
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		l.setDown(true)
		return len(p), nil
	})
	ctx := within(t)
	if err := cmd.Run(ctx); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	l.setDown(false)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(ctx); err != nil {
		t.Error(err)
	}
}

func TestCancelWhileTheLineIsDown(t *testing.T) {
	c, l := live(t)
	ctx, cancel := context.WithCancel(within(t))
	cmd := sh(c, "echo ready; exec sleep 1000")
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		l.setDown(true)
		cancel()
		time.AfterFunc(100*time.Millisecond, func() { l.setDown(false) })
		return len(p), nil
	})
	err := cmd.Run(ctx)
	exit, ok := errors.AsType[*client.ExitError](err)
	if !ok || exit.Signal != client.SIGKILL || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWaitConditions(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	file := t.TempDir() + "/there"
	p := must[*client.Process](t)(c.Start(ctx, client.Spec{
		Shell:     "/bin/sh",
		Script:    `echo starting >&2; read x; echo "listening on 42"; read x; : >"$F"; read x; exit 5`,
		Env:       []string{"F=" + file},
		OpenStdin: true,
	}))
	type outcome struct {
		result client.WaitResult
		err    error
	}
	wait := func(conditions ...client.Condition) outcome {
		t.Helper()
		done := make(chan outcome, 1)
		go func() {
			r, err := p.Wait(ctx, conditions...)
			done <- outcome{r, err}
		}()
		l.cut() // a wait survives that
		if err := p.WriteInput(ctx, []byte("\n")); err != nil {
			// The cut may have hit this call.
			if !errors.Is(err, client.ErrUnavailable) {
				t.Fatal(err)
			}
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			if err := p.WriteInput(ctx, []byte("\n")); err != nil {
				t.Fatal(err)
			}
		}
		return <-done
	}
	if r, err := p.Wait(ctx, client.WaitOutput{Pattern: "start(ing)", Stream: client.Stderr}); err != nil || string(r.Matched) != "starting" {
		t.Fatalf("%+v, %v", r, err)
	}
	if o := wait(client.WaitFile{Path: file + "not"}, client.WaitOutput{Pattern: `on \d+\n`}); o.err != nil || o.result.Condition != 1 || string(o.result.Matched) != "on 42\n" || o.result.Offset != 10 {
		t.Fatalf("%+v", o)
	}
	if o := wait(client.WaitFile{Path: file}); o.err != nil {
		t.Fatalf("%+v", o)
	}
	if o := wait(); o.err != nil || o.result.Exit == nil || o.result.Exit.Code != 5 {
		t.Fatalf("%+v", o)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := c.WaitFor(short, client.WaitFile{Path: file + "not"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestEnvironment(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	env := must[map[string]string](t)(c.UpdateEnvironment(ctx, client.EnvironmentChange{Set: map[string]string{"WIDE": "1", "GONE": "2"}}))
	if env["WIDE"] != "1" {
		t.Errorf("%v", env)
	}
	must[map[string]string](t)(c.UpdateEnvironment(ctx, client.EnvironmentChange{Unset: []string{"GONE"}}))
	out := must[[]byte](t)(sh(c, `echo "$WIDE,$GONE"`).Output(ctx))
	if string(out) != "1,\n" {
		t.Errorf("%q", out)
	}
	env = must[map[string]string](t)(c.Environment(ctx))
	if _, ok := env["GONE"]; ok || env["WIDE"] != "1" {
		t.Errorf("%v", env)
	}
	if _, err := c.UpdateEnvironment(ctx, client.EnvironmentChange{Set: map[string]string{"A": "\xff"}}); !errors.Is(err, client.ErrInvalidRequest) {
		t.Errorf("%v", err)
	}
}

func TestReadyWaitsForTheAgent(t *testing.T) {
	c, l := live(t)
	l.setDown(true)
	if _, err := c.Info(within(t)); !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { l.setDown(false) })
	if err := c.Ready(within(t)); err != nil {
		t.Error(err)
	}
	if _, err := c.Metrics(within(t)); err != nil {
		t.Error(err)
	}
}

// Many calls on one connection outlive its end, though one of them finds out
// before the others that there is no new one yet.
func TestWaitsSurviveAnOutage(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	file := filepath.Join(t.TempDir(), "file")
	const waits = 30
	ended := make(chan error, waits)
	for range waits {
		go func() {
			_, err := c.WaitFor(ctx, client.WaitFile{Path: file})
			ended <- err
		}()
	}
	// The agent is in this process.
	stacks := make([]byte, 4<<20)
	for waiting := 0; waiting < waits; time.Sleep(time.Millisecond) {
		waiting = bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("agent.(*processService).Wait("))
		if ctx.Err() != nil {
			t.Fatalf("%d of %d calls wait", waiting, waits)
		}
	}
	l.setDown(true)
	for l.failures() < 3 {
		select {
		case err := <-ended:
			t.Fatalf("a wait ended with the connection: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	l.setDown(false)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range waits {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
