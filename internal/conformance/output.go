package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// pattern checks a stream that repeats one line without keeping it.
type pattern struct {
	line string
	n    int64
	bad  error
}

func (p *pattern) Write(b []byte) (int, error) {
	unit := int64(len(p.line))
	whole := bytes.Repeat([]byte(p.line), len(b)/len(p.line)+2)
	if at := p.n % unit; p.bad == nil && !bytes.Equal(b, whole[at:at+int64(len(b))]) {
		p.bad = fmt.Errorf("the bytes at %d are not those that were written", p.n)
	}
	p.n += int64(len(b))
	return len(b), nil
}

func (s *suite) output(t *testing.T) {
	t.Run("large", s.largeOutput)
	t.Run("slow reader", s.slowReader)
	t.Run("reattach", s.reattach)
	t.Run("observer", s.observer)
	t.Run("nobody reads", s.nobodyReads)
	t.Run("held by a grandchild", s.heldOutput)
	t.Run("stdout closed early", s.closedEarly)
	t.Run("reader gone", s.readerGone)
}

// largeOutput is the process that prints far more than any buffer holds.
func (s *suite) largeOutput(t *testing.T) {
	size := int64(1 << 30)
	if s.target.Slow || testing.Short() || raceEnabled {
		size = 64 << 20
	}
	out := &pattern{line: "guestd\n"}
	cmd := s.client.Command("/bin/sh", "-c", fmt.Sprintf("yes guestd | head -c %d", size))
	cmd.Stdout = out
	if err := cmd.Run(s.context(t)); err != nil {
		t.Fatal(err)
	}
	if out.n != size || out.bad != nil {
		t.Errorf("%d bytes of %d: %v", out.n, size, out.bad)
	}
}

// gate is a writer that waits until it is opened.
type gate struct {
	io.Writer
	open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.Writer.Write(b)
}

// slowReader stops reading one process while another goes on: the first waits,
// loses nothing, and holds up nobody.
func (s *suite) slowReader(t *testing.T) {
	const size = 16 << 20
	slow := &gate{&pattern{line: "slow\n"}, make(chan struct{})}
	cmd := s.client.Command("/bin/sh", "-c", fmt.Sprintf("yes slow | head -c %d", size))
	cmd.Stdout = slow
	if err := cmd.Start(s.context(t)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		quick := &pattern{line: "quick\n"}
		other := s.client.Command("/bin/sh", "-c", fmt.Sprintf("yes quick | head -c %d", size))
		other.Stdout = quick
		if err := other.Run(s.context(t)); err != nil || quick.n != size || quick.bad != nil {
			t.Fatalf("beside a reader that stands still: %d bytes of %d, %v, %v", quick.n, size, quick.bad, err)
		}
	}
	info, err := cmd.Process.Info(s.context(t))
	if err != nil || info.Exit != nil {
		t.Errorf("the process did not wait for its reader: %+v, %v", info.Exit, err)
	}
	close(slow.open)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p := slow.Writer.(*pattern); p.n != size || p.bad != nil {
		t.Errorf("%d bytes of %d, %v", p.n, size, p.bad)
	}
}

// reattach reads a process over connections that are cut again and again.
func (s *suite) reattach(t *testing.T) {
	const lines = 3000
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{
		"/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo out $i; echo err $i >&2; done", lines),
	}})
	if err != nil {
		t.Fatal(err)
	}
	attachment, err := process.Attach(s.context(t), client.AttachOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attachment.Close()
	var stdout, stderr, wantOut, wantErr bytes.Buffer
	events := 0
	for event, err := range attachment.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if event.Gap != nil {
			t.Fatalf("a gap: %+v", event.Gap)
		}
		if event.Stream == client.Stderr {
			stderr.Write(event.Data)
		} else {
			stdout.Write(event.Data)
		}
		if events++; events%7 == 0 && events < 70 {
			s.line.cut()
		}
	}
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&wantOut, "out", i)
		fmt.Fprintln(&wantErr, "err", i)
	}
	if !bytes.Equal(stdout.Bytes(), wantOut.Bytes()) || !bytes.Equal(stderr.Bytes(), wantErr.Bytes()) {
		t.Errorf("stdout %d of %d bytes, stderr %d of %d, or others", stdout.Len(), wantOut.Len(), stderr.Len(), wantErr.Len())
	}
	if exit := attachment.Exit(); exit == nil || !exit.Success() {
		t.Errorf("exit: %v", exit)
	}
}

// observer reads a process's ring after it wrote more than that holds: what is
// missing is told to the byte, and what is there is right.
func (s *suite) observer(t *testing.T) {
	const size, ring = 1 << 20, 64 << 10
	process, err := s.client.Start(s.context(t), client.Spec{
		Args: []string{"/bin/sh", "-c", fmt.Sprintf("yes observed | head -c %d", size)}, OutputBuffer: ring,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(s.context(t)); err != nil {
		t.Fatal(err)
	}
	attachment, err := process.Attach(s.context(t), client.AttachOptions{From: &client.Offsets{}})
	if err != nil {
		t.Fatal(err)
	}
	defer attachment.Close()
	check := &pattern{line: "observed\n"}
	for event, err := range attachment.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if event.Gap != nil {
			if event.Gap.Offset != uint64(check.n) {
				t.Errorf("a gap at %d after byte %d", event.Gap.Offset, check.n)
			}
			check.n += int64(event.Gap.Bytes)
		}
		if len(event.Data) > 0 {
			if event.Offset != uint64(check.n) {
				t.Errorf("data at %d after byte %d", event.Offset, check.n)
			}
			_, _ = check.Write(event.Data)
		}
	}
	if check.n != size || check.bad != nil {
		t.Errorf("gaps and data are %d bytes of %d, %v", check.n, size, check.bad)
	}
}

// nobodyReads: such a process never blocks.
func (s *suite) nobodyReads(t *testing.T) {
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"/bin/sh", "-c", "yes alone | head -c 20000000; echo done >&2"}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := process.Wait(s.context(t))
	if err != nil || !result.Exit.Success() {
		t.Errorf("%v, %v", result.Exit, err)
	}
}

// heldOutput: the exit does not wait for a background child that holds the
// pipe, and the child's output still flows to who stays.
func (s *suite) heldOutput(t *testing.T) {
	release := s.path(t, "release")
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{
		"/bin/sh", "-c", fmt.Sprintf("(while [ ! -e %s ]; do sleep 0.05; done; echo late) & echo early", release),
	}})
	if err != nil {
		t.Fatal(err)
	}
	attachment, err := process.Attach(s.context(t), client.AttachOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attachment.Close()
	var text bytes.Buffer
	for event, err := range attachment.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if event.Exit != nil {
			if !event.Exit.OutputHeld || text.String() != "early\n" {
				t.Errorf("at the exit: held %t, output %q", event.Exit.OutputHeld, &text)
			}
			s.sh(t, "touch %s", release)
		}
		text.Write(event.Data)
	}
	if text.String() != "early\nlate\n" || attachment.Exit() == nil {
		t.Errorf("output %q, exit %v", &text, attachment.Exit())
	}
}

func (s *suite) closedEarly(t *testing.T) {
	var stdout bytes.Buffer
	cmd := s.client.Command("/bin/sh", "-c", "echo first; exec >&-; sleep 0.2; exit 4")
	cmd.Stdout = &stdout
	err := cmd.Run(s.context(t))
	var exit *client.ExitError
	if !asExit(err, &exit) || exit.Code != 4 || stdout.String() != "first\n" {
		t.Errorf("%q, %v", &stdout, err)
	}
}

// readerGone: a lossless reader that is gone does not hold up the process.
func (s *suite) readerGone(t *testing.T) {
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"/bin/sh", "-c", "yes | head -c 50000000"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.context(t))
	attachment, err := process.Attach(ctx, client.AttachOptions{Lossless: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attachment.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = attachment.Close()
	start := time.Now()
	result, err := process.Wait(s.context(t))
	if err != nil || !result.Exit.Success() {
		t.Errorf("%v, %v after %v", result.Exit, err, time.Since(start))
	}
	if _, err := s.client.Process("no-such-process").Attach(s.context(t), client.AttachOptions{}); !errors.Is(err, client.ErrProcessNotFound) {
		t.Errorf("attach to nothing: %v", err)
	}
}
