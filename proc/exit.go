//go:build linux

package proc

import (
	"syscall"
	"time"
)

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code; it means nothing where Signal is not 0.
	Code int
	// Signal is what killed the process; 0 if it exited by itself.
	Signal     syscall.Signal
	CoreDumped bool

	// TimedOut: Spec.Timeout had passed, and the process was being ended.
	TimedOut bool

	// OOM is not nil if the kernel killed anything of the process's tree for
	// lack of memory. It needs the memory controller; without it, it is
	// always nil.
	OOM *OOM

	// UserTime, SystemTime and MaxRSS (bytes) are those of the process and
	// of the children it waited for. The kernel counts into MaxRSS what the
	// child shared with the agent before exec: small values say nothing.
	UserTime   time.Duration
	SystemTime time.Duration
	MaxRSS     int64

	Started time.Time
	Ended   time.Time

	// OutputHeld: when the exit was reported, something else still held the
	// output pipe, or more output was waiting than a pipe holds. The rest of
	// the output follows, to those who stay subscribed.
	OutputHeld bool
}

// Success reports whether the process exited by itself with code 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == 0 }

// ShellCode returns the code as a shell would put it into $?: the exit code,
// or 128 plus the signal's number.
func (e Exit) ShellCode() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// OOMScope says whose limit was hit.
type OOMScope string

// Whose limit it was.
const (
	OOMOwn     OOMScope = "own"     // the process's own Limits.MemoryMax
	OOMSandbox OOMScope = "sandbox" // a limit of a cgroup above
	OOMMachine OOMScope = "machine" // the machine ran out of memory
)

// OOM describes an out-of-memory kill.
type OOM struct {
	Scope OOMScope
	Peak  int64  // most memory that the tree used, in bytes; 0 is unknown
	Count uint64 // processes of the tree that were killed
}
