//go:build linux

package proc

import (
	"log/slog"
	"math/bits"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultUmask is what processes begin with.
const defaultUmask = 0o022

// inheritance is what the agent has and its processes must not have.
type inheritance struct {
	// These are put right from outside, just after the exec: a shim would
	// cost every process more than the exec itself. What the process forks
	// within those microseconds keeps the agent's.
	oomScoreAdj int
	nice        int
	files       *unix.Rlimit // RLIMIT_NOFILE before it was raised; nil if it was not

	// These only the process itself can put right, so that every process
	// goes through the shim. An agent that is started properly has neither.
	signals bool // blocked signals
	umask   bool // another than 022

	// noSetgroups: a user namespace of an ordinary user (user_namespaces(7)).
	noSetgroups bool
}

// needShim reports whether every process must go through the shim.
func (i inheritance) needShim() bool { return i.signals || i.umask }

// readInheritance looks at the agent itself.
func readInheritance(log *slog.Logger, shim bool) inheritance {
	var i inheritance
	if f := readFields("/proc/self/oom_score_adj"); len(f) == 1 {
		i.oomScoreAdj, _ = strconv.Atoi(f[0])
	}
	// The system call, unlike getpriority(3), returns 20 minus the value.
	if prio, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		i.nice = 20 - prio
	}
	if f := readFields("/proc/self/setgroups"); len(f) == 1 {
		i.noSetgroups = f[0] == "deny"
	}
	// Of this thread: the main one may have been retired by the Go runtime, which
	// then blocks everything in it.
	status, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "SigIgn":
			catchIgnored(value)
		case "SigBlk":
			mask, err := strconv.ParseUint(value, 16, 64)
			i.signals = err == nil && mask != 0
		case "Umask":
			umask, err := strconv.ParseUint(value, 8, 32)
			i.umask = err == nil && umask != defaultUmask
		}
	}
	if i.needShim() && !shim {
		log.Warn("processes inherit the agent's blocked signals, or its umask",
			"signals", i.signals, "umask", i.umask)
		i.signals, i.umask = false, false
	}
	return i
}

// catchIgnored catches the signals of a mask of proc_pid_status(5), and does
// nothing with them. For the agent that is the same as to ignore them, as a
// shell has its background jobs do with SIGINT and nohup with SIGHUP; but a
// handler, unlike SIG_IGN, is not handed down through exec.
func catchIgnored(mask string) {
	set, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return
	}
	for ; set != 0; set &= set - 1 {
		sig := syscall.Signal(bits.TrailingZeros64(set) + 1)
		if sig >= firstLibcSignal && sig <= lastLibcSignal {
			resetSignal(sig)
		} else {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// These signals are the C libraries' own: nobody else sends them, and Go leaves
// them alone. A program that glibc's posix_spawn has started ignores them, and so
// do its children: everything below make, for example.
const (
	firstLibcSignal = syscall.Signal(32)
	lastLibcSignal  = syscall.Signal(34)
)

// resetSignal restores a signal's default. An action of the kernel that is all
// zeros is SIG_DFL on every architecture.
func resetSignal(sig syscall.Signal) {
	const setSize = 8
	var action [4]uint64
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
}

// settlePriorities sets the nice value and oom_score_adj of a new process to 0,
// unless the shim has set them, where it would have inherited the agent's.
func (i inheritance) settlePriorities(pid int) {
	if i.oomScoreAdj != 0 {
		_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0)
	}
	if i.nice != 0 {
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, 0)
	}
}

// settleFiles gives a new process the limit on descriptors that the agent
// began with.
func (i inheritance) settleFiles(pid int) {
	if i.files == nil {
		return
	}
	// The Go runtime gives a child the limit from before its own rise, if
	// there was anything to rise.
	var now unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now) == nil && now.Max > i.files.Max {
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, i.files, nil)
	}
}

// filesPerProcess is how many descriptors a living process takes: its pidfd,
// three pipes, and one to watch its cgroup.
const filesPerProcess = 5

// raiseFileLimit raises the agent's RLIMIT_NOFILE, as far as it may, to what
// that many processes need. It returns the limit from before if it raised it.
func raiseFileLimit(processes int) *unix.Rlimit {
	want := uint64(processes)*filesPerProcess + 1024
	for _, f := range readFields("/proc/sys/fs/nr_open") {
		if most, err := strconv.ParseUint(f, 10, 64); err == nil {
			want = min(want, most)
		}
	}
	var now unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &now) != nil || now.Cur >= want {
		return nil
	}
	lim := unix.Rlimit{Cur: want, Max: max(want, now.Max)}
	// Neither syscall.Setrlimit nor unix.Prlimit, after which the runtime
	// would give every child the raised limit.
	_, _, errno := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(&lim)), 0, 0, 0)
	if errno != 0 {
		return nil
	}
	return &now
}
