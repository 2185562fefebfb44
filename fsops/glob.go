//go:build linux

package fsops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// maxBraces bounds the patterns that the braces of one pattern expand to.
const maxBraces = 1024

// Glob calls fn once with each existing path that pattern matches, in no
// particular order. The pattern is a path, so it may begin with "~" or be
// relative to the base; its elements may have * and ?, which match any name,
// also one that begins with a dot, [a-z], [^a-z], {a,b}, and ** for any number
// of directories. A backslash takes the meaning from what follows. The paths
// are absolute where the pattern is, or begins with a tilde, and relative
// otherwise.
//
// An element with a pattern follows a symbolic link to a directory, as a shell
// does; ** does not, so that it always ends. Directories that cannot be read
// match nothing. As ** may stand for no directory, "a/**" matches a itself; a
// slash at the end lets only directories match. A malformed pattern gives an
// error for which errors.Is with [ErrBadPattern] holds. fn runs with the user's
// rights; its error ends Glob.
func (f *FS) Glob(ctx context.Context, pattern string, fn func(path string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	globs, root, at, err := f.parseGlob(pattern)
	if err != nil {
		return pathError("glob", pattern, err)
	}
	var states globStates
	for _, elements := range globs {
		states = states.add(elements)
	}
	return f.do(func() error {
		node, err := f.openRootNodeAs(root, states.access())
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
			return nil
		}
		if err != nil {
			return pathError("glob", pattern, err)
		}
		defer node.drop()
		if states.accepts(true) {
			if err := fn(cmp.Or(at, ".")); err != nil {
				return err
			}
		}
		g := &globber{ended: ctx.Err, fn: fn, fs: f}
		return g.visit(node, at, states)
	})
}

// parseGlob returns the pattern's elements, once for each way its braces can
// be read, the directory to begin in, and how results call that directory.
func (f *FS) parseGlob(pattern string) (globs [][]string, root, at string, err error) {
	if pattern == "" || strings.IndexByte(pattern, 0) >= 0 {
		_, err := f.resolve(pattern)
		return nil, "", "", err
	}
	if !doublestar.ValidatePattern(pattern) {
		return nil, "", "", ErrBadPattern
	}
	root, rest := f.base, pattern
	switch pattern[0] {
	case '/':
		root, at = "/", "/"
	case '~':
		user, after, _ := strings.Cut(pattern, "/")
		if root, err = f.resolve(user); err != nil {
			return nil, "", "", err
		}
		at, rest = root, after
	}
	expanded, err := expandBraces(rest)
	if err != nil {
		return nil, "", "", err
	}
	for _, one := range expanded {
		elements := splitElements(one)
		for _, e := range elements {
			// A class with a slash in it, "[a/b]", falls apart.
			if !doublestar.ValidatePattern(e) {
				return nil, "", "", ErrBadPattern
			}
		}
		globs = append(globs, elements)
	}
	return globs, root, at, nil
}

// onlyDirs stands at the end of a pattern that ends with a slash.
const onlyDirs = "/"

// splitElements cuts a pattern at its slashes. A run of ** means as much as one
// and ".", also with a backslash, nothing.
func splitElements(pattern string) []string {
	var elements []string
	for e := range strings.SplitSeq(pattern, "/") {
		if e == "" || e == "." || e == `\.` || e == "**" && len(elements) > 0 && elements[len(elements)-1] == "**" {
			continue
		}
		elements = append(elements, e)
	}
	if strings.HasSuffix(pattern, "/") && len(elements) > 0 {
		elements = append(elements, onlyDirs)
	}
	return elements
}

// expandBraces writes out the alternatives of {a,b}, since one may have a slash
// in it. The pattern is valid.
func expandBraces(pattern string) ([]string, error) {
	done, todo := []string{}, []string{pattern}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		before, choices, after, found := cutBraces(p)
		if !found {
			done = append(done, p)
			continue
		}
		for _, choice := range choices {
			todo = append(todo, before+choice+after)
		}
		if len(done)+len(todo) > maxBraces {
			return nil, fmt.Errorf("more than %d alternatives: %w", maxBraces, ErrBadPattern)
		}
	}
	return done, nil
}

// cutBraces finds the first outermost braces.
func cutBraces(p string) (before string, choices []string, after string, found bool) {
	depth, start, from, class := 0, 0, 0, false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '{':
			if depth++; depth == 1 {
				start, from = i, i+1
			}
		case c == ',' && depth == 1:
			choices = append(choices, p[from:i])
			from = i + 1
		case c == '}' && depth > 0:
			if depth--; depth == 0 {
				return p[:start], append(choices, p[from:i]), p[i+1:], true
			}
		}
	}
	return p, nil, "", false
}
