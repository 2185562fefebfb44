//go:build linux

package proc

import (
	"slices"
	"strings"
	"sync"

	"github.com/guestd/guestd/internal/passwd"
)

// environ is the sandbox-wide environment. Only processes that start later
// see a change.
type environ struct {
	mu   sync.RWMutex
	vars map[string]string
}

func newEnviron(env []string) (*environ, error) {
	e := &environ{vars: map[string]string{}}
	return e, e.update(env, nil)
}

func (e *environ) update(set, unset []string) error {
	if err := validateEnv(set); err != nil {
		return err
	}
	for _, kv := range set {
		if strings.IndexByte(kv, 0) >= 0 {
			return &SpecError{"env", "has a NUL byte"}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, key := range unset {
		delete(e.vars, key)
	}
	for _, kv := range set {
		key, value, _ := strings.Cut(kv, "=")
		e.vars[key] = value
	}
	return nil
}

func (e *environ) list() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	env := make([]string, 0, len(e.vars))
	for k, v := range e.vars {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// Environ returns the sandbox-wide environment as sorted "KEY=value".
func (t *Table) Environ() []string { return t.env.list() }

// Getenv returns one variable of the sandbox-wide environment.
func (t *Table) Getenv(key string) (value string, ok bool) {
	t.env.mu.RLock()
	defer t.env.mu.RUnlock()
	value, ok = t.env.vars[key]
	return value, ok
}

// UpdateEnv first removes the keys in unset and then sets the "KEY=value"
// entries in set, at once: no process sees half of it. A malformed entry is
// ErrInvalid, and nothing is changed then.
func (t *Table) UpdateEnv(set, unset []string) error { return t.env.update(set, unset) }

// merge builds the environment of a process: what follows from its user, then
// the sandbox's, then its own; the last entry for a key wins.
func (e *environ) merge(s *Spec, id passwd.Identity, shell string) []string {
	if s.CleanEnv {
		return dedup(s.Env)
	}
	env := []string{
		"HOME=" + id.Home, "LOGNAME=" + id.Name, "PATH=" + DefaultPath,
		"SHELL=" + shell, "USER=" + id.Name,
	}
	if s.TTY != nil {
		term := s.TTY.Term
		if term == "" {
			term = "xterm-256color"
		}
		env = append(env, "TERM="+term)
	}
	env = append(env, e.list()...)
	return dedup(append(env, s.Env...))
}

// dedup keeps the last entry for each key, where the first one stood.
func dedup(env []string) []string {
	at := make(map[string]int, len(env))
	out := make([]string, 0, len(env))
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := at[key]; ok {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out
}

// getenv finds key in a merged environment.
func getenv(env []string, key string) (string, bool) {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}
