//go:build linux

package boot

import (
	"fmt"
	"syscall"
)

// Action is what becomes of the machine once everything in it has ended.
type Action int

// The zero Action is none of them.
const (
	PowerOff Action = iota + 1
	Reboot
	Halt
)

// String gives the word that the log uses.
func (a Action) String() string {
	switch a {
	case PowerOff:
		return "power off"
	case Reboot:
		return "reboot"
	case Halt:
		return "halt"
	}
	return fmt.Sprintf("Action(%d)", int(a))
}

// The real-time signals which systemd as PID 1 takes for these actions. It
// counts from glibc's SIGRTMIN, two above the kernel's.
const (
	sigHalt     = syscall.Signal(34 + 3)
	sigPowerOff = syscall.Signal(34 + 4)
	sigReboot   = syscall.Signal(34 + 5)
)

// Request asks PID 1, be it this package or systemd, to end the machine. It
// needs CAP_KILL over PID 1 (root). It returns as soon as the signal is sent:
// the caller gets a SIGTERM of its own soon after.
func Request(a Action) error {
	signals := map[Action]syscall.Signal{PowerOff: sigPowerOff, Reboot: sigReboot, Halt: sigHalt}
	sig, known := signals[a]
	if !known {
		return fmt.Errorf("request %v: %w", a, syscall.EINVAL)
	}
	if err := syscall.Kill(1, sig); err != nil {
		return fmt.Errorf("request %v of pid 1: %w", a, err)
	}
	return nil
}

// actionFor says what a signal to PID 1 asks for, if it asks for an end.
func actionFor(sig syscall.Signal, container bool) (Action, bool) {
	switch sig {
	case sigPowerOff, syscall.SIGUSR2, syscall.SIGPWR:
		return PowerOff, true
	case sigHalt, syscall.SIGUSR1:
		return Halt, true
	case sigReboot:
		return Reboot, true
	case syscall.SIGTERM, syscall.SIGINT:
		if container {
			return PowerOff, true
		}
		return Reboot, true
	}
	return 0, false
}

// forwarded reports whether a signal to PID 1 is meant for the agent: a hang-up, a
// dump of its goroutines, a new window size.
func forwarded(sig syscall.Signal) bool {
	return sig == syscall.SIGHUP || sig == syscall.SIGQUIT || sig == syscall.SIGWINCH
}
