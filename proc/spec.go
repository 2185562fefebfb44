//go:build linux

package proc

import "time"

// Spec says what to run. Either Args or Script is set; with neither, Login
// asks for the user's interactive login shell. A Spec is plain data: it is
// copied by Start, and two that are deeply equal mean the same process.
type Spec struct {
	// ID names the process: 1 to 64 characters of [A-Za-z0-9._-], the first
	// a letter or digit. Empty draws a random one.
	ID string

	// Args is the program and its arguments; nothing is wrapped around it. A
	// program without a slash is looked up in the PATH which the process
	// will have. A relative one with a slash is relative to Dir.
	Args []string

	// Script is run as `SHELL -c Script`; the shell's argv[0] is its base name.
	Script string

	// Shell overrides the user's login shell for Script and Login.
	Shell string

	// Login starts the shell as a login shell: its argv[0] begins with "-".
	// It means nothing together with Args.
	Login bool

	// Env holds "KEY=value" entries that override the sandbox-wide
	// environment, which overrides USER, LOGNAME, HOME, SHELL, PATH (and
	// TERM with a terminal). With CleanEnv the environment is Env and
	// nothing else. The last entry for a key wins.
	Env      []string
	CleanEnv bool

	// Dir is the working directory. "~" and "~/…" are the user's home; a
	// relative one is below the user's home. Empty is the user's home, or
	// "/" where that cannot be entered.
	Dir string

	// User is "name", "uid", "name:group" or "uid:gid"; supplementary groups
	// come from /etc/group. Empty is the agent's own user.
	User string

	// Stdin, Stdout, Stderr say where the descriptors go. They mean nothing
	// with TTY: a terminal is all three, and its output is Stdout.
	Stdin  StdinMode
	Stdout OutputMode
	Stderr OutputMode

	// TTY gives the process a controlling terminal. Nil is none.
	TTY *TTY

	// Rlimits are set before exec. Those not named stay the agent's, except
	// that the Go runtime's rise of RLIMIT_NOFILE is undone.
	Rlimits []Rlimit

	// Limits bound the process's whole tree through its cgroup.
	Limits Limits

	// Nice is the nice value, -20 to 19. OOMScoreAdj is -1000 to 1000. Both
	// are absolute: what the agent has is not inherited.
	Nice        int
	OOMScoreAdj int

	// Umask is the file mode creation mask. Nil is 022.
	Umask *uint32

	// Timeout ends the process after this long: TERM to the tree, and after
	// KillGrace KILL. 0 is never.
	Timeout time.Duration

	// KillGrace is the time between TERM and KILL. 0 is the table's,
	// negative is none.
	KillGrace time.Duration

	// RingSize is how much output is kept per stream, in bytes. 0 is the
	// table's. At least 4 KiB, at most 64 MiB.
	RingSize int

	// Labels are the caller's own; the table only carries them.
	Labels map[string]string
}

// StdinMode says what standard input is.
type StdinMode int

// The kinds of standard input.
const (
	StdinNone StdinMode = iota // /dev/null
	StdinPipe                  // a pipe, written with Process.Write
)

// OutputMode says what an output descriptor is.
type OutputMode int

// The kinds of output descriptors.
const (
	OutputPipe    OutputMode = iota // a pipe, kept in the ring of its stream
	OutputDiscard                   // /dev/null
	OutputMerge                     // Stderr only: wherever Stdout goes
)

// TTY describes a terminal.
type TTY struct {
	Size
	// Modes are the encoded terminal modes of RFC 4254 §8 and RFC 8160:
	// opcode to argument. Opcodes which Linux does not have are ignored.
	Modes map[uint8]uint32
	// Term is the value of TERM. Empty is "xterm-256color".
	Term string
	// NameEnv is a variable that gets the terminal's name, which nobody knows
	// before: SSH_TTY for one. Empty is none.
	NameEnv string
}

// Size is a terminal's size. Zero rows and columns become 24 and 80.
type Size struct {
	Rows, Cols     uint16 // characters
	XPixel, YPixel uint16 // 0 is unknown
}

// Rlimit is one resource limit; see setrlimit(2).
type Rlimit struct {
	Resource int    // unix.RLIMIT_…; see ParseRlimit
	Soft     uint64 // unix.RLIM_INFINITY is unlimited
	Hard     uint64
}

// Limits bound a process and everything it starts. Zero fields do not limit.
// A limit whose controller the cgroup hierarchy lacks makes Start fail with a
// StartError{Stage: StageCgroup, Path: controller} that is
// errors.ErrUnsupported; it is never ignored.
type Limits struct {
	MemoryMax  int64  // bytes; beyond it the OOM killer comes (memory.max)
	MemoryHigh int64  // bytes; beyond it the tree is slowed down (memory.high)
	SwapMax    *int64 // bytes; a pointer because 0, no swap, is a limit
	PidsMax    int64  // processes and threads (pids.max)
	CPUMillis  int64  // thousandths of one CPU (cpu.max)
	CPUWeight  int64  // 1 to 10000, where others have 100 (cpu.weight)
}
