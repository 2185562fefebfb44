//go:build linux

package proc

import "time"

// State is where a process is in its life.
type State string

// The states.
const (
	StateRunning State = "running"
	StateExited  State = "exited" // its exit has been reported
)

// StreamInfo is the state of one output stream.
type StreamInfo struct {
	Start uint64 // offset of the oldest byte still kept
	End   uint64 // offset after the newest byte: how much was written
	EOF   bool   // nothing more will come
}

// Info is a snapshot of a process. It carries no environment.
type Info struct {
	ID      string
	Handle  string // "BOOTID/ID"
	PID     int
	State   State
	Args    []string // as executed
	Script  string
	Dir     string
	User    string // login name
	UID     uint32
	GID     uint32
	TTY     bool
	Labels  map[string]string
	Started time.Time
	Exit    *Exit // nil while it runs
	Stdout  StreamInfo
	Stderr  StreamInfo
	// TreeAlive: something of the process's tree is alive, be it the process
	// itself. Without cgroup2, what holds its output counts.
	TreeAlive bool
	// Subscribers is how many subscriptions are open.
	Subscribers int
}

// Scope says to whom a signal goes.
type Scope int

// The scopes.
const (
	ScopeProcess Scope = iota // the process alone
	ScopeGroup                // its process group
	ScopeTree                 // everything it started, wherever it went
)

// Capabilities says what the kernel and its configuration allow.
type Capabilities struct {
	Cgroup          string   // the table's cgroup directory; "" without cgroup2
	Controllers     []string // usable for Limits, sorted: "cpu", "memory", "pids"
	CgroupKill      bool     // cgroup.kill exists (Linux 5.14)
	CloneIntoCgroup bool     // processes are born in their cgroup
	TreeSignals     string   // "cgroup", or "session" where setsid escapes
	GroupByPidfd    bool     // process groups are signalled by pidfd (Linux 6.9)
	Shim            bool     // Rlimits, Nice, Umask and OOMScoreAdj may be asked for
}

// Stats counts what a table holds.
type Stats struct {
	Running   int    // processes whose exit has not been reported
	Lingering int    // exited, but their tree or output goes on
	Retained  int    // ended records
	Started   uint64 // processes started since the table was made
	RingBytes int64  // memory of all output rings
	RingLimit int64  // Config.RingTotal in force
}
