//go:build linux

package agent

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// processMessage describes a process as it is now.
func processMessage(p *proc.Process) *guestdv1.Process {
	info := p.Info()
	m := &guestdv1.Process{
		Id: info.ID, Handle: info.Handle, Pid: uint32(info.PID),
		State:        guestdv1.ProcessState_PROCESS_STATE_RUNNING,
		Spec:         specMessage(p.Spec(), info),
		StartTime:    timestamppb.New(info.Started),
		StdoutOldest: info.Stdout.Start, StdoutEnd: info.Stdout.End,
		StderrOldest: info.Stderr.Start, StderrEnd: info.Stderr.End,
		Subscribers: uint32(info.Subscribers),
	}
	if info.Exit != nil {
		m.State = guestdv1.ProcessState_PROCESS_STATE_EXITED
		m.Exit = exitMessage(info.Exit)
	}
	return m
}

// specMessage tells what was asked for as it was understood. The environment
// stays behind: it may hold secrets.
func specMessage(s proc.Spec, info proc.Info) *guestdv1.ProcessSpec {
	m := &guestdv1.ProcessSpec{
		Id: info.ID, Script: readable(s.Script), Shell: readable(s.Shell), Login: s.Login,
		CleanEnv: s.CleanEnv, User: readable(info.User), Umask: s.Umask,
		Stdin:  s.Stdin == proc.StdinPipe,
		Stdout: outputMode(s.Stdout), Stderr: outputMode(s.Stderr),
		OutputBufferBytes: uint64(s.RingSize), Labels: s.Labels,
	}
	m.Args, m.RawArgs = textOrBytes(s.Args)
	if utf8.ValidString(info.Dir) {
		m.Cwd = info.Dir
	} else {
		m.RawCwd = []byte(info.Dir)
	}
	if s.Nice != 0 {
		nice := int32(s.Nice)
		m.Nice = &nice
	}
	if s.OOMScoreAdj != 0 {
		adj := int32(s.OOMScoreAdj)
		m.OomScoreAdj = &adj
	}
	if s.Timeout != 0 {
		m.Timeout = durationpb.New(s.Timeout)
	}
	if s.KillGrace != 0 {
		m.KillGrace = durationpb.New(max(0, s.KillGrace))
	}
	for _, r := range s.Rlimits {
		m.Rlimits = append(m.Rlimits, &guestdv1.Rlimit{
			Resource: proc.RlimitName(r.Resource), Soft: r.Soft, Hard: r.Hard,
		})
	}
	m.Terminal = terminalMessage(s.TTY)
	m.Limits = limitsMessage(s.Limits)
	return m
}

// readable is text as it is, but for bytes that are not UTF-8 and could not
// travel. Scripts and users of the SSH server may have such.
func readable(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func outputMode(m proc.OutputMode) guestdv1.OutputMode {
	switch m {
	case proc.OutputDiscard:
		return guestdv1.OutputMode_OUTPUT_MODE_DISCARD
	case proc.OutputMerge:
		return guestdv1.OutputMode_OUTPUT_MODE_MERGE
	}
	return guestdv1.OutputMode_OUTPUT_MODE_STREAM
}

// textOrBytes returns list in the form that can carry it.
func textOrBytes(list []string) (text []string, raw [][]byte) {
	for _, s := range list {
		if !utf8.ValidString(s) {
			for _, s := range list {
				raw = append(raw, []byte(s))
			}
			return nil, raw
		}
	}
	return list, nil
}

func terminalMessage(t *proc.TTY) *guestdv1.Terminal {
	if t == nil {
		return nil
	}
	m := &guestdv1.Terminal{Term: t.Term}
	if t.Rows != 0 || t.Cols != 0 {
		m.Size = &guestdv1.TerminalSize{
			Rows: uint32(t.Rows), Columns: uint32(t.Cols),
			WidthPixels: uint32(t.XPixel), HeightPixels: uint32(t.YPixel),
		}
	}
	for opcode, value := range t.Modes {
		if m.Modes == nil {
			m.Modes = make(map[uint32]uint32, len(t.Modes))
		}
		m.Modes[uint32(opcode)] = value
	}
	return m
}

func limitsMessage(l proc.Limits) *guestdv1.ResourceLimits {
	if l == (proc.Limits{}) {
		return nil
	}
	m := &guestdv1.ResourceLimits{
		MemoryBytes: uint64(l.MemoryMax), Pids: uint64(l.PidsMax),
		CpuMillis: uint64(l.CPUMillis), CpuWeight: uint32(l.CPUWeight),
	}
	if l.SwapMax != nil {
		swap := uint64(*l.SwapMax)
		m.SwapBytes = &swap
	}
	return m
}

// exitMessage tells how a process ended.
func exitMessage(e *proc.Exit) *guestdv1.ProcessExit {
	m := &guestdv1.ProcessExit{
		// A status that was lost, -1, is 255: by no means a success.
		Code: uint32(uint8(e.Code)), CoreDumped: e.CoreDumped, TimedOut: e.TimedOut,
		EndTime:    timestamppb.New(e.Ended),
		Duration:   durationpb.New(e.Ended.Sub(e.Started)),
		UserTime:   durationpb.New(e.UserTime),
		SystemTime: durationpb.New(e.SystemTime),

		MaxResidentBytes: uint64(e.MaxRSS),
		OutputHeld:       e.OutputHeld,
	}
	if e.Signal != 0 {
		m.Signal = uint32(e.Signal)
		m.SignalName = "SIG" + proc.SignalName(e.Signal)
	}
	if e.OOM != nil {
		m.OutOfMemory = &guestdv1.OutOfMemory{
			Scope: oomScope(e.OOM.Scope), Kills: e.OOM.Count, PeakBytes: uint64(e.OOM.Peak),
		}
	}
	return m
}

func oomScope(s proc.OOMScope) guestdv1.OomScope {
	switch s {
	case proc.OOMOwn:
		return guestdv1.OomScope_OOM_SCOPE_PROCESS
	case proc.OOMSandbox:
		return guestdv1.OomScope_OOM_SCOPE_SANDBOX
	case proc.OOMMachine:
		return guestdv1.OomScope_OOM_SCOPE_MACHINE
	}
	return guestdv1.OomScope_OOM_SCOPE_UNSPECIFIED
}
