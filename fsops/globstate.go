//go:build linux

package fsops

import (
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// globStates are the patterns' remainders that still wait for a match: each
// path is visited once, however many ways lead to it.
type globStates [][]string

// add puts a remainder in, and since ** may stand for nothing, the one behind
// it too.
func (s globStates) add(elements []string) globStates {
	for _, have := range s {
		if slices.Equal(have, elements) {
			return s
		}
	}
	s = append(s, elements)
	if len(elements) > 0 && elements[0] == "**" {
		s = s.add(elements[1:])
	}
	return s
}

// accepts reports whether a path may end here.
func (s globStates) accepts(isDir bool) bool {
	for _, elements := range s {
		if len(elements) == 0 || isDir && elements[0] == onlyDirs {
			return true
		}
	}
	return false
}

// goesOn reports whether something below could match.
func (s globStates) goesOn() bool {
	for _, elements := range s {
		if len(elements) > 0 && elements[0] != onlyDirs {
			return true
		}
	}
	return false
}

// step returns what is left behind an element called name, and the part of it
// that may go through a symbolic link.
func (s globStates) step(name string) (next, through globStates) {
	for _, elements := range s {
		if len(elements) == 0 || elements[0] == onlyDirs {
			continue
		}
		if elements[0] == "**" && name != ".." {
			next = next.add(elements)
		} else if matchElement(elements[0], name) {
			next, through = next.add(elements[1:]), through.add(elements[1:])
		}
	}
	return next, through
}

// matchElement matches one name; ".." is nothing that a pattern stands for.
func matchElement(element, name string) bool {
	if name == ".." || element == ".." {
		return element == name
	}
	return doublestar.MatchUnvalidated(element, name)
}

// literals returns the next elements that are plain names. all reports whether
// every one is: then the directory need not be read, nor be readable.
func (s globStates) literals() (names []string, all bool) {
	all = true
	for _, elements := range s {
		if len(elements) == 0 || elements[0] == onlyDirs {
			continue
		}
		if strings.ContainsAny(elements[0], `*?[{`) {
			all = false
			continue
		}
		if name := unescape(elements[0]); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, all
}

// access returns how to open a directory that waits for s.
func (s globStates) access() int {
	if _, all := s.literals(); all {
		return unix.O_PATH
	}
	return unix.O_RDONLY
}

func unescape(element string) string {
	if strings.IndexByte(element, '\\') < 0 {
		return element
	}
	var b strings.Builder
	for i := 0; i < len(element); i++ {
		if element[i] == '\\' && i+1 < len(element) {
			i++
		}
		b.WriteByte(element[i])
	}
	return b.String()
}

// globber is one run of [FS.Glob].
type globber struct {
	ended func() error // says whether the caller has given up
	fs    *FS
	fn    func(path string) error
}

// globDir is a directory to descend into.
type globDir struct {
	name    string
	states  globStates
	symlink bool
}

// visit reports what matches in node, which results call at, then descends.
func (g *globber) visit(node *dirNode, at string, states globStates) error {
	if err := g.ended(); err != nil {
		return err
	}
	subdirs, err := g.list(node, at, states)
	if err != nil {
		return err
	}
	for _, sub := range subdirs {
		child, err := g.open(node, sub)
		if err != nil {
			continue // unreadable or gone matches nothing
		}
		err = g.visit(child, joinAt(at, sub.name), sub.states)
		if closeErr := child.close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *globber) list(node *dirNode, at string, states globStates) (subdirs []globDir, err error) {
	names, all := states.literals()
	for _, name := range names {
		// In a directory that is read anyway, only ".." is not found there.
		if !all && name != ".." {
			continue
		}
		if subdirs, err = g.match(node, at, DirEntry{Name: name}, states, subdirs); err != nil {
			return nil, err
		}
	}
	if all {
		return subdirs, nil
	}
	reader := newDirentReader(node.fd)
	defer reader.release()
	for n := 1; ; n++ {
		var entry DirEntry
		ok, err := reader.next(&entry)
		if err != nil || !ok {
			return subdirs, nil
		}
		if subdirs, err = g.match(node, at, entry, states, subdirs); err != nil {
			return nil, err
		}
		if n%1024 == 0 {
			if err := g.ended(); err != nil {
				return nil, err
			}
		}
	}
}

// match reports entry if it matches, and adds it to subdirs if something below
// it could.
func (g *globber) match(node *dirNode, at string, entry DirEntry, states globStates, subdirs []globDir) ([]globDir, error) {
	next, through := states.step(entry.Name)
	if len(next) == 0 {
		return subdirs, nil
	}
	var info FileInfo
	if entry.Type == 0 {
		if statInto(&info, node.fd, entry.Name, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return subdirs, nil
		}
		entry.Type = info.Mode & unix.S_IFMT
	}
	isDir, symlink := entry.Type == unix.S_IFDIR, entry.Type == unix.S_IFLNK
	if symlink && (through.goesOn() || next.accepts(true) != next.accepts(false)) {
		isDir = statInto(&info, node.fd, entry.Name, 0) == nil && info.IsDir()
	}
	if next.accepts(isDir) {
		if err := g.fn(joinAt(at, entry.Name)); err != nil {
			return nil, err
		}
	}
	if symlink {
		next = through
	}
	if isDir && next.goesOn() {
		subdirs = append(subdirs, globDir{entry.Name, next, symlink})
	}
	return subdirs, nil
}

func (g *globber) open(node *dirNode, sub globDir) (*dirNode, error) {
	if !sub.symlink {
		return node.openAs(sub.name, sub.states.access())
	}
	resolve := uint64(0)
	if g.fs.creds != nil {
		resolve = unix.RESOLVE_NO_MAGICLINKS
	}
	fd, err := openHow(node.fd, sub.name, sub.states.access()|unix.O_DIRECTORY, 0, resolve)
	if err != nil {
		return nil, err
	}
	node.pinned = true
	return newDirNode(node, fd)
}

// joinAt puts name behind at, which is "" for the base and "/" for the root.
func joinAt(at, name string) string {
	if at == "" {
		return name
	}
	return joinPath(at, name)
}
