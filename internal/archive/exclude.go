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
			return excluder{}, fmt.Errorf("%w %q", ErrPattern, p)
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
