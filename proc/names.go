//go:build linux

package proc

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseRlimit returns the resource that a name such as "nofile",
// "RLIMIT_NOFILE" or "NOFILE" means (setrlimit(2)).
func ParseRlimit(name string) (resource int, ok bool) {
	name = strings.TrimPrefix(strings.ToLower(name), "rlimit_")
	for i, n := range rlimitNames {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

// RlimitName returns a resource's name as "nofile"; one without a name is its
// number.
func RlimitName(resource int) string {
	if resource >= 0 && resource < len(rlimitNames) {
		return rlimitNames[resource]
	}
	return strconv.Itoa(resource)
}

// rlimitNames is indexed by resource.
var rlimitNames = [...]string{
	unix.RLIMIT_CPU: "cpu", unix.RLIMIT_FSIZE: "fsize", unix.RLIMIT_DATA: "data",
	unix.RLIMIT_STACK: "stack", unix.RLIMIT_CORE: "core", unix.RLIMIT_RSS: "rss",
	unix.RLIMIT_NPROC: "nproc", unix.RLIMIT_NOFILE: "nofile",
	unix.RLIMIT_MEMLOCK: "memlock", unix.RLIMIT_AS: "as", unix.RLIMIT_LOCKS: "locks",
	unix.RLIMIT_SIGPENDING: "sigpending", unix.RLIMIT_MSGQUEUE: "msgqueue",
	unix.RLIMIT_NICE: "nice", unix.RLIMIT_RTPRIO: "rtprio", unix.RLIMIT_RTTIME: "rttime",
}

// ParseSignal returns the signal that "TERM", "SIGTERM", "term" or "15" means.
func ParseSignal(name string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(name); err == nil {
		return syscall.Signal(n), n > 0 && n <= maxSignals
	}
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	sig := unix.SignalNum(name)
	return sig, sig != 0
}

// SignalName returns a signal's name without "SIG", as RFC 4254 §6.10 writes
// it; one without a name is its number.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(sig))
}
