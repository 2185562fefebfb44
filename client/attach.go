package client

import (
	"context"
	"errors"
	"io"
	"iter"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// AttachOptions says from where and how to read a process's output.
type AttachOptions struct {
	// From is where to begin: what [Attachment.Offsets] returned to an earlier
	// reader. Nil: at the oldest byte that is kept. What is no longer kept is
	// reported as a gap.
	From *Offsets

	// FromNow begins with what is written from now on; From is ignored.
	FromNow bool

	// Lossless makes the process wait for this reader, as it would for a pipe.
	// Otherwise it never waits, and what a slow reader misses is reported as a
	// gap.
	Lossless bool

	// NoFollow ends when everything that is kept now has been read.
	NoFollow bool

	// NoReattach makes a broken connection an error at once, instead of going on
	// where it stopped (see Config.ReattachTimeout).
	NoReattach bool
}

// Attachment reads the output of a process. It is for one goroutine: to end a
// Next that waits, cancel Attach's context.
type Attachment struct {
	process *Process
	stream  *execStream
	next    func() (execEvent, error) // of stream, with Attach's context
	exit    *ExitStatus
}

// OutputEvent is something that an Attachment read: exactly one of Data, Gap
// and Exit is set.
type OutputEvent struct {
	Stream Stream
	Offset uint64 // of Data's first byte, absolute
	Data   []byte // valid until the next event
	Gap    *Gap   // output that was missed
	Exit   *ExitStatus
}

// Attach begins to read the output of a process. The caller must close the
// attachment; the end of ctx ends it as well.
func (p *Process) Attach(ctx context.Context, o AttachOptions) (*Attachment, error) {
	mode := guestdv1.SubscribeMode_SUBSCRIBE_MODE_OBSERVER
	if o.Lossless {
		mode = guestdv1.SubscribeMode_SUBSCRIBE_MODE_LOSSLESS
	}
	attach := &guestdv1.ExecAttach{Process: p.key(), FromNow: o.FromNow, NoFollow: o.NoFollow, Mode: mode}
	stream := &execStream{
		client:   p.client,
		resume:   !o.NoReattach && p.client.reattachTimeout > 0,
		noFollow: o.NoFollow,
		mode:     mode,
	}
	if o.From != nil && !o.FromNow {
		attach.StdoutOffset, attach.StderrOffset = &o.From.Stdout, &o.From.Stderr
		stream.offsets[Stdout] = position{next: o.From.Stdout, known: true}
		stream.offsets[Stderr] = position{next: o.From.Stderr, known: true}
	}
	err := stream.open(ctx, &guestdv1.ExecRequest{Request: &guestdv1.ExecRequest_Attach{Attach: attach}})
	if err != nil {
		return nil, p.mapError("attach", err)
	}
	if o.FromNow {
		stream.fromNow = &Offsets{Stdout: stream.process.GetStdoutEnd(), Stderr: stream.process.GetStderrEnd()}
	}
	return &Attachment{
		process: p.client.processFromWire(stream.process),
		stream:  stream,
		next:    func() (execEvent, error) { return stream.next(ctx) },
	}, nil
}

// Process returns the process whose output this is.
func (a *Attachment) Process() *Process { return a.process }

// Offsets returns where the next bytes will come from: what to set
// AttachOptions.From to in order to continue later.
func (a *Attachment) Offsets() Offsets {
	return Offsets{Stdout: a.stream.offsets[Stdout].next, Stderr: a.stream.offsets[Stderr].next}
}

// Exit returns how the process ended; nil until Next has returned that.
func (a *Attachment) Exit() *ExitStatus { return a.exit }

// Next returns the next event. After the last one it returns io.EOF: after the
// exit and what background children wrote after that, or, with NoFollow, when
// all that was kept has been read.
func (a *Attachment) Next() (OutputEvent, error) {
	event, err := a.next()
	if errors.Is(err, io.EOF) {
		return OutputEvent{}, io.EOF
	}
	if err != nil {
		return OutputEvent{}, a.process.mapError("read output", err)
	}
	switch event.kind {
	case eventGap:
		return OutputEvent{Stream: event.gap.Stream, Offset: event.gap.Offset, Gap: &event.gap}, nil
	case eventExit:
		a.exit = event.exit
		return OutputEvent{Exit: event.exit}, nil
	default:
		return OutputEvent{Stream: event.stream, Offset: event.offset, Data: event.data}, nil
	}
}

// Events calls Next until the end of the output or an error; an error is the
// last pair.
func (a *Attachment) Events() iter.Seq2[OutputEvent, error] {
	return func(yield func(OutputEvent, error) bool) {
		for {
			event, err := a.Next()
			if errors.Is(err, io.EOF) || !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// CopyTo writes the output to two writers, either of which may be nil, until the
// process ends, and returns how it ended. It does not wait for background
// children that hold the output. The status is nil if NoFollow ended the copying
// first. A gap is a [*GapError], after which CopyTo may be called again.
func (a *Attachment) CopyTo(stdout, stderr io.Writer) (*ExitStatus, error) {
	for event, err := range a.Events() {
		switch {
		case err != nil:
			return a.exit, err
		case event.Gap != nil:
			return a.exit, &GapError{Process: a.process.id, Gap: *event.Gap}
		case event.Exit != nil:
			return a.exit, nil
		}
		w := stdout
		if event.Stream == Stderr {
			w = stderr
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(event.Data); err != nil {
			return a.exit, err
		}
	}
	return a.exit, nil
}

// Close ends the reading; the process goes on.
func (a *Attachment) Close() error {
	a.stream.close()
	return nil
}
