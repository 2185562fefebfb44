//go:build linux

package proc

// Stream names an output of a process.
type Stream int

// The streams. A terminal and merged output have only Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String returns "stdout" or "stderr".
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Special values of the offsets in [SubscribeOptions].
const (
	FromStart int64 = 0  // the first byte ever written
	FromNow   int64 = -1 // what comes from now on
	NoStream  int64 = -2 // not this stream at all
)

// SubscribeOptions says what a subscription delivers and whether it may slow
// the process down. The zero value is an observer of both streams from their
// beginning.
type SubscribeOptions struct {
	// Lossless makes the process wait for this subscriber when a ring is
	// full, as a pipe would. Several may be lossless at once. What was
	// overwritten before the subscription began is reported as a gap even
	// so. False is an observer: it never slows anybody and is told what it
	// missed.
	Lossless bool

	// Stdout and Stderr are the absolute offsets of the first byte wanted,
	// or one of FromStart, FromNow, NoStream. An offset beyond what has been
	// written so far is an error.
	Stdout int64
	Stderr int64
}

// Event is what [Subscription.Next] delivers: exactly one of output or exit.
type Event struct {
	// Stream, Offset and Data are output: Data[0] is byte number Offset of
	// the stream. Data lies in the buffer that was given to Next.
	Stream Stream
	Offset uint64
	Data   []byte

	// Gap is how many bytes of the stream were lost directly before Offset.
	// Data may be empty then.
	Gap uint64

	// Exit is set once, when the process has ended and all output that was
	// there at that moment has been delivered. More output follows only if
	// Exit.OutputHeld.
	Exit *Exit
}
