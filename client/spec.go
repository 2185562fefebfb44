package client

import (
	"fmt"
	"maps"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Spec says what to run in the guest and how. Exactly one of Args, Script and
// Login is needed; everything else has a useful zero value.
type Spec struct {
	// ID names the process, so that it can be found again: 1 to 64 characters of
	// [A-Za-z0-9._-], the first a letter or digit. Starting a second one of the
	// same id and spec returns the first. Default: a random one.
	ID string

	// Args is the program and its arguments. Args[0] is looked up in PATH of
	// the process's own environment unless it holds a "/".
	Args []string
	// Script is run by the user's login shell, or by Shell.
	Script string
	// Shell is the absolute path of the shell for Script.
	Shell string
	// Login makes the shell a login shell. With neither Args nor Script it is
	// the user's interactive one.
	Login bool

	// Env is "NAME=VALUE" entries, over the sandbox-wide environment and the
	// user's own (HOME, USER, LOGNAME, SHELL, PATH). Of a name that comes twice
	// the last counts.
	Env []string
	// CleanEnv gives the process nothing but Env.
	CleanEnv bool
	// Dir is the working directory. Default: the user's home directory, or "/"
	// if that is not there. "~" and relative paths are taken from the home.
	Dir string
	// User is NAME|UID[:GROUP|GID]. Default: the agent's own user.
	User string

	// OpenStdin gives the process a pipe as stdin instead of /dev/null. A [Cmd]
	// sets it by itself.
	OpenStdin bool
	// DiscardStdout and DiscardStderr throw a stream away in the guest. A [Cmd]
	// sets them where it has no writer.
	DiscardStdout, DiscardStderr bool
	// MergeStderr puts stderr into stdout, in the order of the writes.
	MergeStderr bool
	// Terminal, if not nil, runs the process on a terminal, which is its stdin,
	// stdout and stderr; all output is then stdout.
	Terminal *Terminal

	// Rlimits are limits by setrlimit(2).
	Rlimits []Rlimit
	// Limits bounds the process's whole tree, by cgroup2.
	Limits Limits
	// Timeout ends the process: SIGTERM to its tree, then SIGKILL after
	// KillGrace. Zero: never.
	Timeout time.Duration
	// KillGrace is the time between SIGTERM and SIGKILL. Zero: 5 s.
	KillGrace time.Duration

	// OutputBuffer is how many bytes of each stream the agent keeps for whoever
	// attaches later, or again. Zero: 1 MiB.
	OutputBuffer int64

	// Nice is the scheduling priority, -20 to 19.
	Nice int
	// Umask is the file mode creation mask; nil: 022.
	Umask *uint32
	// OOMScoreAdj is /proc/PID/oom_score_adj, -1000 to 1000.
	OOMScoreAdj int

	// Labels are the caller's own notes, shown by [Client.Processes].
	Labels map[string]string
}

// Terminal is a pseudo-terminal to run on.
type Terminal struct {
	// Size at the start. Zero: 24 rows of 80 columns.
	Size TerminalSize
	// Term is TERM. Default: "xterm-256color".
	Term string
	// Modes over the kernel's defaults, by their opcode of RFC 4254 section 8.
	Modes map[uint8]uint32
}

// TerminalSize is the size of a terminal.
type TerminalSize struct {
	Rows, Columns uint16 // in characters
	Width, Height uint16 // in pixels; 0: not known
}

// Unlimited is no limit, in an [Rlimit].
const Unlimited = ^uint64(0)

// Rlimit is one limit of setrlimit(2).
type Rlimit struct {
	Resource   string // "nofile", "core", "stack", "nproc", …
	Soft, Hard uint64
}

// Limits bounds a process's tree. Zero values are no limit.
type Limits struct {
	Memory    int64  // bytes
	Swap      *int64 // bytes; nil: no limit of its own
	Pids      int64
	CPUMillis int64  // thousandths of one CPU
	CPUWeight uint32 // 1 to 10000; the kernel's default is 100
}

// toWire translates s. It refuses only what protobuf cannot carry; the agent
// checks the rest.
func (s *Spec) toWire() (*guestdv1.ProcessSpec, error) {
	for _, text := range []string{s.ID, s.Script, s.Shell, s.User} {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: %q is not UTF-8", ErrInvalidRequest, text)
		}
	}
	env, rawEnv, err := envToWire(s.Env)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	spec := &guestdv1.ProcessSpec{
		Id:                s.ID,
		Script:            s.Script,
		Shell:             s.Shell,
		Login:             s.Login,
		Env:               env,
		RawEnv:            rawEnv,
		CleanEnv:          s.CleanEnv,
		User:              s.User,
		Stdin:             s.OpenStdin,
		Stdout:            outputMode(s.DiscardStdout, false),
		Stderr:            outputMode(s.DiscardStderr, s.MergeStderr),
		Terminal:          s.Terminal.toWire(),
		Timeout:           durationToWire(s.Timeout),
		KillGrace:         durationToWire(s.KillGrace),
		OutputBufferBytes: uint64(max(s.OutputBuffer, 0)),
		Umask:             s.Umask,
		Labels:            s.Labels,
	}
	spec.Args, spec.RawArgs = argsToWire(s.Args)
	spec.Cwd, spec.RawCwd = toWire(s.Dir)
	if s.Nice != 0 {
		spec.Nice = new(int32(s.Nice))
	}
	if s.OOMScoreAdj != 0 {
		spec.OomScoreAdj = new(int32(s.OOMScoreAdj))
	}
	for _, limit := range s.Rlimits {
		spec.Rlimits = append(spec.Rlimits, &guestdv1.Rlimit{Resource: limit.Resource, Soft: limit.Soft, Hard: limit.Hard})
	}
	spec.Limits, err = s.Limits.toWire()
	return spec, err
}

func (l *Limits) toWire() (*guestdv1.ResourceLimits, error) {
	if *l == (Limits{}) {
		return nil, nil
	}
	if l.Memory < 0 || l.Pids < 0 || l.CPUMillis < 0 || l.Swap != nil && *l.Swap < 0 {
		return nil, fmt.Errorf("%w: negative limit", ErrInvalidRequest)
	}
	limits := &guestdv1.ResourceLimits{
		MemoryBytes: uint64(l.Memory),
		Pids:        uint64(l.Pids),
		CpuMillis:   uint64(l.CPUMillis),
		CpuWeight:   l.CPUWeight,
	}
	if l.Swap != nil {
		limits.SwapBytes = new(uint64(*l.Swap))
	}
	return limits, nil
}

func (t *Terminal) toWire() *guestdv1.Terminal {
	if t == nil {
		return nil
	}
	term := &guestdv1.Terminal{Term: t.Term}
	if t.Size != (TerminalSize{}) {
		term.Size = t.Size.toWire()
	}
	if len(t.Modes) > 0 {
		term.Modes = make(map[uint32]uint32, len(t.Modes))
		for opcode, value := range t.Modes {
			term.Modes[uint32(opcode)] = value
		}
	}
	return term
}

func (s TerminalSize) toWire() *guestdv1.TerminalSize {
	return &guestdv1.TerminalSize{
		Rows:         uint32(s.Rows),
		Columns:      uint32(s.Columns),
		WidthPixels:  uint32(s.Width),
		HeightPixels: uint32(s.Height),
	}
}

// sizeFromWire takes no more than the kernel's 16 bits can hold; a nil size is
// the zero one.
func sizeFromWire(s *guestdv1.TerminalSize) TerminalSize {
	clamp := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	return TerminalSize{
		Rows:    clamp(s.GetRows()),
		Columns: clamp(s.GetColumns()),
		Width:   clamp(s.GetWidthPixels()),
		Height:  clamp(s.GetHeightPixels()),
	}
}

func outputMode(discard, merge bool) guestdv1.OutputMode {
	switch {
	case discard:
		return guestdv1.OutputMode_OUTPUT_MODE_DISCARD
	case merge:
		return guestdv1.OutputMode_OUTPUT_MODE_MERGE
	default:
		return guestdv1.OutputMode_OUTPUT_MODE_STREAM
	}
}

// specFromWire translates what the agent reports of a process's spec.
func specFromWire(p *guestdv1.ProcessSpec) Spec {
	if p == nil {
		return Spec{}
	}
	s := Spec{
		ID:            p.GetId(),
		Args:          argsFromWire(p.GetArgs(), p.GetRawArgs()),
		Script:        p.GetScript(),
		Shell:         p.GetShell(),
		Login:         p.GetLogin(),
		CleanEnv:      p.GetCleanEnv(),
		Dir:           fromWire(p.GetCwd(), p.GetRawCwd()),
		User:          p.GetUser(),
		OpenStdin:     p.GetStdin(),
		DiscardStdout: p.GetStdout() == guestdv1.OutputMode_OUTPUT_MODE_DISCARD,
		DiscardStderr: p.GetStderr() == guestdv1.OutputMode_OUTPUT_MODE_DISCARD,
		MergeStderr:   p.GetStderr() == guestdv1.OutputMode_OUTPUT_MODE_MERGE,
		Timeout:       p.GetTimeout().AsDuration(),
		KillGrace:     p.GetKillGrace().AsDuration(),
		OutputBuffer:  int64(p.GetOutputBufferBytes()),
		Nice:          int(p.GetNice()),
		Umask:         p.Umask,
		OOMScoreAdj:   int(p.GetOomScoreAdj()),
		Labels:        maps.Clone(p.GetLabels()),
	}
	if t := p.GetTerminal(); t != nil {
		s.Terminal = &Terminal{Term: t.GetTerm(), Size: sizeFromWire(t.GetSize())}
	}
	for _, limit := range p.GetRlimits() {
		s.Rlimits = append(s.Rlimits, Rlimit{Resource: limit.GetResource(), Soft: limit.GetSoft(), Hard: limit.GetHard()})
	}
	if l := p.GetLimits(); l != nil {
		s.Limits = Limits{
			Memory:    int64(l.GetMemoryBytes()),
			Pids:      int64(l.GetPids()),
			CPUMillis: int64(l.GetCpuMillis()),
			CPUWeight: l.GetCpuWeight(),
		}
		if l.SwapBytes != nil {
			s.Limits.Swap = new(int64(l.GetSwapBytes()))
		}
	}
	return s
}

// durationToWire leaves out zero, for which the agent has its default.
func durationToWire(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}
