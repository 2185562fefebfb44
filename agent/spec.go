//go:build linux

package agent

import (
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"

	"github.com/guestd/guestd/proc"
)

// specOf translates a ProcessSpec. It refuses what cannot be said in a
// proc.Spec; whether the spec makes sense is for proc to say.
func specOf(m *guestdv1.ProcessSpec) (proc.Spec, error) {
	if m == nil {
		return proc.Spec{}, invalidRequest("spec: is missing")
	}
	s := proc.Spec{
		ID: m.Id, Args: m.Args, Script: m.Script, Shell: m.Shell, Login: m.Login,
		CleanEnv: m.CleanEnv, Dir: m.Cwd, User: m.User,
		Nice: int(m.GetNice()), OOMScoreAdj: int(m.GetOomScoreAdj()), Umask: m.Umask,
		Labels: m.Labels,
	}
	var err error
	if s.Env, err = envOf("spec.env", m.Env, m.RawEnv); err != nil {
		return proc.Spec{}, err
	}
	if len(m.RawArgs) > 0 {
		if len(m.Args) > 0 {
			return proc.Spec{}, invalidRequest("spec.raw_args: comes together with spec.args")
		}
		for _, arg := range m.RawArgs {
			s.Args = append(s.Args, string(arg))
		}
	}
	if len(m.RawCwd) > 0 {
		s.Dir = string(m.RawCwd)
	}
	if m.Stdin {
		s.Stdin = proc.StdinPipe
	}
	for _, translate := range []func(*proc.Spec, *guestdv1.ProcessSpec) error{
		specOutput, specTerminal, specLimits, specTimes,
	} {
		if err := translate(&s, m); err != nil {
			return proc.Spec{}, err
		}
	}
	return s, nil
}

// envOf joins both forms of an environment as sorted "KEY=value": two specs
// that say the same must be equal. Field is what to call env in an error.
func envOf(field string, env map[string]string, raw map[string][]byte) ([]string, error) {
	for _, keys := range []iter.Seq[string]{maps.Keys(env), maps.Keys(raw)} {
		for key := range keys {
			// "A=B": "x" would be A, with another value.
			if key == "" || strings.ContainsAny(key, "=\x00") {
				return nil, invalidRequest("%s: %q is no name of a variable", field, key)
			}
		}
	}
	list := make([]string, 0, len(env)+len(raw))
	for key, value := range env {
		if _, ok := raw[key]; !ok {
			list = append(list, key+"="+value)
		}
	}
	for key, value := range raw {
		list = append(list, key+"="+string(value))
	}
	slices.Sort(list)
	return list, nil
}

func specOutput(s *proc.Spec, m *guestdv1.ProcessSpec) error {
	switch m.Stdout {
	case guestdv1.OutputMode_OUTPUT_MODE_UNSPECIFIED, guestdv1.OutputMode_OUTPUT_MODE_STREAM:
	case guestdv1.OutputMode_OUTPUT_MODE_DISCARD:
		s.Stdout = proc.OutputDiscard
	default:
		return invalidRequest("spec.stdout: %v is not possible", m.Stdout)
	}
	switch m.Stderr {
	case guestdv1.OutputMode_OUTPUT_MODE_UNSPECIFIED, guestdv1.OutputMode_OUTPUT_MODE_STREAM:
	case guestdv1.OutputMode_OUTPUT_MODE_DISCARD:
		s.Stderr = proc.OutputDiscard
	case guestdv1.OutputMode_OUTPUT_MODE_MERGE:
		s.Stderr = proc.OutputMerge
	default:
		return invalidRequest("spec.stderr: %v is not possible", m.Stderr)
	}
	if m.OutputBufferBytes > math.MaxInt32 {
		return invalidRequest("spec.output_buffer_bytes: %d is too much", m.OutputBufferBytes)
	}
	s.RingSize = int(m.OutputBufferBytes)
	return nil
}

func specTerminal(s *proc.Spec, m *guestdv1.ProcessSpec) error {
	t := m.Terminal
	if t == nil {
		return nil
	}
	s.TTY = &proc.TTY{Term: t.Term}
	if t.Size != nil {
		size, err := sizeOf(t.Size)
		if err != nil {
			return err
		}
		s.TTY.Size = size
	}
	for opcode, value := range t.Modes {
		if opcode > math.MaxUint8 {
			return invalidRequest("spec.terminal.modes: %d is not an opcode", opcode)
		}
		if s.TTY.Modes == nil {
			s.TTY.Modes = make(map[uint8]uint32, len(t.Modes))
		}
		s.TTY.Modes[uint8(opcode)] = value
	}
	return nil
}

// sizeOf translates a terminal size.
func sizeOf(m *guestdv1.TerminalSize) (proc.Size, error) {
	for _, n := range []uint32{m.GetRows(), m.GetColumns()} {
		if n < 1 || n > math.MaxUint16 {
			return proc.Size{}, invalidRequest("size: %d is not between 1 and 65535", n)
		}
	}
	for _, n := range []uint32{m.GetWidthPixels(), m.GetHeightPixels()} {
		if n > math.MaxUint16 {
			return proc.Size{}, invalidRequest("size: %d is not between 0 and 65535", n)
		}
	}
	return proc.Size{
		Rows: uint16(m.GetRows()), Cols: uint16(m.GetColumns()),
		XPixel: uint16(m.GetWidthPixels()), YPixel: uint16(m.GetHeightPixels()),
	}, nil
}

func specLimits(s *proc.Spec, m *guestdv1.ProcessSpec) error {
	for _, r := range m.Rlimits {
		resource, ok := proc.ParseRlimit(r.GetResource())
		if !ok {
			return invalidRequest("spec.rlimits: no resource %q", r.GetResource())
		}
		s.Rlimits = append(s.Rlimits, proc.Rlimit{Resource: resource, Soft: r.GetSoft(), Hard: r.GetHard()})
	}
	l := m.Limits
	if l == nil {
		return nil
	}
	for _, n := range []uint64{l.MemoryBytes, l.GetSwapBytes(), l.Pids, l.CpuMillis} {
		if n > math.MaxInt64 {
			return invalidRequest("spec.limits: %d is too much", n)
		}
	}
	s.Limits = proc.Limits{
		MemoryMax: int64(l.MemoryBytes), PidsMax: int64(l.Pids),
		CPUMillis: int64(l.CpuMillis), CPUWeight: int64(l.CpuWeight),
	}
	if l.SwapBytes != nil {
		swap := int64(*l.SwapBytes)
		s.Limits.SwapMax = &swap
	}
	return nil
}

func specTimes(s *proc.Spec, m *guestdv1.ProcessSpec) error {
	timeout, err := durationOf("spec.timeout", m.Timeout)
	if err != nil {
		return err
	}
	s.Timeout = timeout
	grace, err := durationOf("spec.kill_grace", m.KillGrace)
	if err != nil {
		return err
	}
	s.KillGrace = grace
	if m.KillGrace != nil && grace == 0 {
		s.KillGrace = -1 // none, which is not the default
	}
	return nil
}

// durationOf translates a duration that must not be negative; nil is 0.
func durationOf(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		return 0, invalidRequest("%s: is not a valid, non-negative duration", field)
	}
	return d.AsDuration(), nil
}

// offsetOf translates an absolute offset in an output stream.
func offsetOf(field string, offset uint64) (int64, error) {
	if offset > math.MaxInt64 {
		return 0, invalidRequest("%s: %s is beyond any stream", field, strconv.FormatUint(offset, 10))
	}
	return int64(offset), nil
}
