//go:build linux

package proc

import (
	"log/slog"
	"time"

	"github.com/guestd/guestd/internal/passwd"
)

// The defaults of [Config].
const (
	DefaultRingSize     = 1 << 20
	DefaultRingTotal    = 256 << 20
	DefaultRetention    = 5 * time.Minute
	DefaultDrain        = 100 * time.Millisecond
	DefaultKillGrace    = 5 * time.Second
	DefaultMaxProcesses = 16384
	DefaultMaxRetained  = 4096
	DefaultPath         = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Config is what a [Table] is made of. The zero value is useful: every field
// says what its zero means.
type Config struct {
	// Logger receives what nobody else is told, such as a cgroup that cannot
	// be removed. Environments, arguments, input and output are never
	// logged. Nil discards.
	Logger *slog.Logger

	// RingSize bounds the output kept for one stream of one process, in
	// bytes. Memory is allocated as output arrives. 0 is DefaultRingSize;
	// less than 4 KiB is 4 KiB. A Spec may ask for another size.
	RingSize int

	// RingTotal bounds the memory of all rings together, in bytes. When it
	// is reached the rings that were not read for longest shrink first;
	// bytes that a lossless subscriber has still to read are never dropped.
	// Every stream keeps 4 KiB beyond the bound. 0 is DefaultRingTotal.
	RingTotal int64

	// Retention is how long a process's record and last output stay after
	// it, its tree and its output have ended. 0 is DefaultRetention,
	// negative means not at all.
	Retention time.Duration

	// Drain is how long the output of an exited process must be quiet until
	// its exit is reported although something else still holds the pipe. The
	// exit is reported after ten times this at the latest. 0 is DefaultDrain.
	Drain time.Duration

	// KillGrace is the time between TERM and KILL where a Spec names none.
	// 0 is DefaultKillGrace.
	KillGrace time.Duration

	// MaxProcesses bounds the processes that are alive, MaxRetained the
	// records of ended ones: beyond it the oldest goes early. 0 is the
	// default of each.
	MaxProcesses int
	MaxRetained  int

	// BootID is the part of a handle that tells this table's processes from
	// those of another boot: 1 to 64 characters of [A-Za-z0-9._-]. Empty
	// draws a random one.
	BootID string

	// Env is the sandbox-wide environment to begin with, as "KEY=value".
	Env []string

	// Cgroup is the cgroup2 directory below which the table makes its own
	// ("guestd-…"). Empty finds the hierarchy in mountinfo and takes the
	// agent's own cgroup. "none" does without cgroups.
	Cgroup string

	// Passwd resolves a user. Nil is passwd.Lookup behind a passwd.Cache.
	Passwd func(spec string) (passwd.Identity, error)

	// Shim is how to run this program so that it calls [ExecShim] with the
	// arguments that follow, such as {"/proc/self/exe", "exec-shim"}. It is
	// used for the few processes whose Spec asks for what the kernel lets
	// only the process itself do between fork and exec (rlimits, nice, umask,
	// oom_score_adj); all others are executed directly. Empty makes such
	// specs fail with errors.ErrUnsupported.
	Shim []string
}
