//go:build linux

package proc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	maxRing    = 64 << 20
	maxOOMAdj  = 1000
	maxUmask   = 0o777
	maxCPUWt   = 10000
	minNice    = -20
	maxNice    = 19
	maxSignals = 64 // SIGRTMAX
)

// normalized returns a copy of s that shares nothing with it and in which
// empty and nil are the same, so that two specs can be compared.
func (s Spec) normalized() Spec {
	s.Args = cloneOrNil(s.Args)
	s.Env = cloneOrNil(s.Env)
	s.Rlimits = cloneOrNil(s.Rlimits)
	if s.Labels = maps.Clone(s.Labels); len(s.Labels) == 0 {
		s.Labels = nil
	}
	if s.TTY != nil {
		tty := *s.TTY
		if tty.Modes = maps.Clone(tty.Modes); len(tty.Modes) == 0 {
			tty.Modes = nil
		}
		s.TTY = &tty
	}
	if s.Umask != nil {
		umask := *s.Umask
		s.Umask = &umask
	}
	if s.Limits.SwapMax != nil {
		swap := *s.Limits.SwapMax
		s.Limits.SwapMax = &swap
	}
	return s
}

func cloneOrNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// validate finds what is wrong with a spec whatever the system looks like.
func (s *Spec) validate() error {
	if s.ID != "" {
		if err := validID("id", s.ID); err != nil {
			return err
		}
	}
	for _, check := range []func() error{s.validateProgram, s.validateStrings, s.validateNumbers} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validateProgram() error {
	switch {
	case len(s.Args) > 0 && s.Script != "":
		return &SpecError{"args", "come together with a script"}
	case len(s.Args) > 0 && s.Args[0] == "":
		return &SpecError{"args", "begin with an empty program name"}
	case len(s.Args) == 0 && s.Script == "" && !s.Login:
		return &SpecError{"args", "are empty, and there is no script or login shell"}
	case s.Stdin < StdinNone || s.Stdin > StdinPipe:
		return &SpecError{"stdin", "has an unknown mode"}
	case s.Stdout < OutputPipe || s.Stdout > OutputDiscard:
		return &SpecError{"stdout", "is neither a pipe nor discarded"}
	case s.Stderr < OutputPipe || s.Stderr > OutputMerge:
		return &SpecError{"stderr", "has an unknown mode"}
	}
	return nil
}

func (s *Spec) validateStrings() error {
	for _, f := range []struct {
		name string
		vals []string
	}{
		{"args", s.Args}, {"script", []string{s.Script}}, {"shell", []string{s.Shell}},
		{"dir", []string{s.Dir}}, {"user", []string{s.User}}, {"env", s.Env},
	} {
		for i, v := range f.vals {
			if strings.IndexByte(v, 0) >= 0 {
				return &SpecError{f.name, fmt.Sprintf("has a NUL byte in element %d", i)}
			}
		}
	}
	if s.TTY != nil && strings.ContainsAny(s.TTY.Term, "\x00") {
		return &SpecError{"tty", "has a NUL byte in its type"}
	}
	if s.TTY != nil && strings.ContainsAny(s.TTY.NameEnv, "=\x00") {
		return &SpecError{"tty", "has a malformed variable for its name"}
	}
	return validateEnv(s.Env)
}

// validateEnv wants KEY=value. The entry itself is not named in the error: it
// may hold a secret.
func validateEnv(env []string) error {
	for i, kv := range env {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			return &SpecError{"env", fmt.Sprintf("element %d is not KEY=value", i)}
		}
	}
	return nil
}

func (s *Spec) validateNumbers() error {
	l := s.Limits
	switch {
	case s.Nice < minNice || s.Nice > maxNice:
		return &SpecError{"nice", "is not between -20 and 19"}
	case s.OOMScoreAdj < -maxOOMAdj || s.OOMScoreAdj > maxOOMAdj:
		return &SpecError{"oom_score_adj", "is not between -1000 and 1000"}
	case s.Umask != nil && *s.Umask > maxUmask:
		return &SpecError{"umask", "is not between 0 and 0777"}
	case s.Timeout < 0:
		return &SpecError{"timeout", "is negative"}
	case s.RingSize != 0 && (s.RingSize < minRing || s.RingSize > maxRing):
		return &SpecError{"ring size", "is not between 4 KiB and 64 MiB"}
	case l.MemoryMax < 0 || l.MemoryHigh < 0 || l.PidsMax < 0 || l.CPUMillis < 0:
		return &SpecError{"limits", "have a negative value"}
	case l.SwapMax != nil && *l.SwapMax < 0:
		return &SpecError{"limits", "have a negative value"}
	case l.CPUWeight < 0 || l.CPUWeight > maxCPUWt:
		return &SpecError{"limits", "have a CPU weight that is not between 1 and 10000"}
	}
	for _, r := range s.Rlimits {
		if r.Resource < 0 || r.Soft > r.Hard {
			return &SpecError{"rlimits", fmt.Sprintf("resource %d: the soft limit is above the hard one", r.Resource)}
		}
	}
	return nil
}
