//go:build linux

package fsops

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Matcher says which relative paths a list of exclude patterns names. It is
// safe for concurrent use; a nil Matcher names none.
type Matcher struct {
	names    []string // without a slash: matched against the last element
	anchored []string // matched against the whole path
}

// NewMatcher reads patterns of *, ?, [a-z], {a,b} and **, where ** stands for
// any number of directories. One without a slash ("*.o", ".git") names files of
// any directory; one with a slash is matched against the whole path, and a
// slash at the beginning ("/build") only anchors it. A slash at the end is
// ignored. A malformed pattern gives an error for which errors.Is with
// [ErrBadPattern] holds.
func NewMatcher(patterns []string) (*Matcher, error) {
	m := &Matcher{}
	for _, pattern := range patterns {
		trimmed := strings.TrimRight(pattern, "/")
		if trimmed == "" || !doublestar.ValidatePattern(trimmed) {
			return nil, fmt.Errorf("pattern %q: %w", pattern, ErrBadPattern)
		}
		if strings.Contains(trimmed, "/") {
			m.anchored = append(m.anchored, strings.TrimPrefix(trimmed, "/"))
		} else {
			m.names = append(m.names, trimmed)
		}
	}
	return m, nil
}

// Match reports whether a pattern names rel, a path of names with single
// slashes between them. Whoever descends a tree asks for each directory on the
// way: what is below an excluded one is not looked at.
func (m *Matcher) Match(rel string) bool {
	if m == nil {
		return false
	}
	base := path.Base(rel)
	for _, pattern := range m.names {
		if doublestar.MatchUnvalidated(pattern, base) {
			return true
		}
	}
	for _, pattern := range m.anchored {
		if doublestar.MatchUnvalidated(pattern, rel) {
			return true
		}
	}
	return false
}
