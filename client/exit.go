package client

import (
	"fmt"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// ExitStatus says how a process ended.
type ExitStatus struct {
	Code       int    // 0 to 255; -1 if a signal ended it
	Signal     Signal // what ended it, for example "KILL"; empty if it exited by itself
	CoreDumped bool
	TimedOut   bool         // it was ended because Spec.Timeout had passed
	OOM        *OutOfMemory // the kernel killed one of its tree for lack of memory; else nil

	End        time.Time     // in the guest's time
	Duration   time.Duration // from start to end
	UserTime   time.Duration // CPU time of it and its waited-for children
	SystemTime time.Duration // the same in the kernel
	MaxRSS     int64         // largest resident set in bytes

	// OutputHeld says that a background child still holds stdout or stderr, so
	// that more output may follow the exit.
	OutputHeld bool

	signalNumber int
}

// Success reports whether the process exited with code 0.
func (s *ExitStatus) Success() bool { return s.Code == 0 && s.Signal == "" }

// SignalNumber returns Linux's number of Signal; 0 without one.
func (s *ExitStatus) SignalNumber() int { return s.signalNumber }

// ShellCode returns the code that a shell would report: Code, or 128 plus the
// signal's number.
func (s *ExitStatus) ShellCode() int {
	if s.signalNumber != 0 {
		return 128 + s.signalNumber
	}
	return s.Code
}

// String returns, for example, "exit status 1" or "signal KILL (out of memory)".
func (s *ExitStatus) String() string {
	text := fmt.Sprintf("exit status %d", s.Code)
	if s.Signal != "" {
		text = "signal " + string(s.Signal)
	}
	if s.CoreDumped {
		text += " (core dumped)"
	}
	if s.TimedOut {
		text += " (timed out)"
	}
	if s.OOM != nil {
		text += " (out of memory)"
	}
	return text
}

// OutOfMemory says which limit was hit.
type OutOfMemory struct {
	Scope OOMScope
	Kills int64 // processes of the tree that the kernel killed
	Peak  int64 // highest memory use of the tree in bytes; 0: not known
}

// OOMScope is whose memory limit was hit.
type OOMScope string

// Whose memory limit was hit.
const (
	OOMUnknown OOMScope = ""
	OOMProcess OOMScope = "process" // that of Spec.Limits
	OOMSandbox OOMScope = "sandbox" // that of all processes together
	OOMMachine OOMScope = "machine" // the machine's memory
)

// ExitError is a process that did not exit with code 0.
type ExitError struct {
	ExitStatus

	// Process is the process's id.
	Process string

	// Stderr is the beginning and the end of the error output, 32 KiB each, if
	// the command was run by [Cmd.Output] and Cmd.Stderr was nil.
	Stderr []byte
}

func (e *ExitError) Error() string { return e.String() }

func exitFromWire(p *guestdv1.ProcessExit) *ExitStatus {
	if p == nil {
		return nil
	}
	s := &ExitStatus{
		Code:         int(p.GetCode()),
		CoreDumped:   p.GetCoreDumped(),
		TimedOut:     p.GetTimedOut(),
		End:          timeFromWire(p.GetEndTime()),
		Duration:     p.GetDuration().AsDuration(),
		UserTime:     p.GetUserTime().AsDuration(),
		SystemTime:   p.GetSystemTime().AsDuration(),
		MaxRSS:       int64(p.GetMaxResidentBytes()),
		OutputHeld:   p.GetOutputHeld(),
		signalNumber: int(p.GetSignal()),
	}
	if p.GetSignal() != 0 {
		s.Code = -1
		s.Signal = signalFromWire(p.GetSignalName(), p.GetSignal())
	}
	if oom := p.GetOutOfMemory(); oom != nil {
		s.OOM = &OutOfMemory{
			Scope: oomScope(oom.GetScope()),
			Kills: int64(oom.GetKills()),
			Peak:  int64(oom.GetPeakBytes()),
		}
	}
	return s
}

func oomScope(scope guestdv1.OomScope) OOMScope {
	switch scope {
	case guestdv1.OomScope_OOM_SCOPE_PROCESS:
		return OOMProcess
	case guestdv1.OomScope_OOM_SCOPE_SANDBOX:
		return OOMSandbox
	case guestdv1.OomScope_OOM_SCOPE_MACHINE:
		return OOMMachine
	default:
		return OOMUnknown
	}
}
