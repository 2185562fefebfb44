package client

import guestdv1 "github.com/guestd/guestd/proto/guestd/v1"

// Stream is an output stream of a process.
type Stream int

// Output streams.
const (
	// AnyStream is either, where that has a meaning.
	AnyStream Stream = iota
	// Stdout is standard output, or a terminal's output.
	Stdout
	// Stderr is standard error.
	Stderr

	streams // how many values there are
)

// String is "stdout", "stderr" or "output".
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	default:
		return "output"
	}
}

func (s Stream) toWire() guestdv1.OutputStream {
	switch s {
	case Stdout:
		return guestdv1.OutputStream_OUTPUT_STREAM_STDOUT
	case Stderr:
		return guestdv1.OutputStream_OUTPUT_STREAM_STDERR
	default:
		return guestdv1.OutputStream_OUTPUT_STREAM_UNSPECIFIED
	}
}

func streamFromWire(s guestdv1.OutputStream) Stream {
	if s == guestdv1.OutputStream_OUTPUT_STREAM_STDERR {
		return Stderr
	}
	return Stdout
}

// Gap is output that this reader missed.
type Gap struct {
	Stream Stream
	Offset uint64 // absolute, of the first missing byte
	Bytes  uint64
}

// Offsets are places in a process's output: how many bytes of each stream lie
// before them, counted from the process's start.
type Offsets struct {
	Stdout, Stderr uint64
}

// OnDisconnect is what happens to a process when the call that started it ends
// before the process does.
type OnDisconnect int

const (
	// KeepRunning leaves it alone.
	KeepRunning OnDisconnect = iota
	// KillTree kills it and everything that descends from it.
	KillTree
)

func (d OnDisconnect) toWire() guestdv1.OnDisconnect {
	if d == KillTree {
		return guestdv1.OnDisconnect_ON_DISCONNECT_KILL
	}
	return guestdv1.OnDisconnect_ON_DISCONNECT_KEEP
}
