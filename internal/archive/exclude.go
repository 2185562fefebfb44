package archive

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// excluder decides which paths of a tree are left out; PackOptions.Exclude
// documents the patterns.
type excluder struct {
	rules []rule
}

type rule struct {
	pattern  string
	negate   bool // "!": takes a match back
	dirOnly  bool // "/" at the end
	anchored bool // matched against the whole path, not the last element
}

func newExcluder(patterns []string) (excluder, error) {
	var x excluder
	for _, p := range patterns {
		r := rule{pattern: p}
		r.pattern, r.negate = strings.CutPrefix(r.pattern, "!")
		r.pattern, r.dirOnly = strings.CutSuffix(r.pattern, "/")
		r.anchored = strings.Contains(r.pattern, "/")
		r.pattern = strings.TrimPrefix(r.pattern, "/")
		if r.pattern == "" || !doublestar.ValidatePattern(r.pattern) {
			return excluder{}, fmt.Errorf("exclude %q: %w", p, ErrPattern)
		}
		x.rules = append(x.rules, r)
	}
	return x, nil
}

// excludes reports whether path, relative to the packed directory, is left out.
func (x *excluder) excludes(path string, isDir bool) bool {
	for i := len(x.rules) - 1; i >= 0; i-- {
		r := &x.rules[i]
		if r.dirOnly && !isDir {
			continue
		}
		subject := path
		if !r.anchored {
			subject = path[strings.LastIndexByte(path, '/')+1:]
		}
		if doublestar.MatchUnvalidated(r.pattern, subject) {
			return !r.negate
		}
	}
	return false
}

// excludesWay is [excluder.excludes] for a path whose directories have not been
// asked about: it is left out if one of them is.
func (x *excluder) excludesWay(elements []string, isDir bool) bool {
	if len(x.rules) == 0 {
		return false
	}
	path := strings.Join(elements, "/")
	for i := range len(path) {
		if path[i] == '/' && x.excludes(path[:i], true) {
			return true
		}
	}
	return x.excludes(path, isDir)
}
