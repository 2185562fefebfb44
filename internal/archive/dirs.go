//go:build linux || darwin

package archive

// maxOpenDirs bounds the descriptors that a dirStack holds, so that depth is
// not limited by RLIMIT_NOFILE.
const maxOpenDirs = 64

// dirStack is a path of directories below a root, each open. It is the only way
// in which this package gets anywhere in a tree: one element at a time,
// relative to the descriptor of the directory above, never through a link.
//
// On a path deeper than maxOpenDirs those nearest to the root are closed, and
// opened again element by element when the path comes back to them.
type dirStack struct {
	root   int // owned
	levels []level
	open   int // levels with a descriptor
}

type level struct {
	name     string
	fd       int  // or closed
	reopened bool // fd is not the one that was pushed
}

const closed = -1

// top returns the descriptor of the directory at the path's end. It belongs to
// the stack and is valid until the path changes.
func (s *dirStack) top() (int, error) {
	if len(s.levels) == 0 {
		return s.root, nil
	}
	if fd := s.levels[len(s.levels)-1].fd; fd != closed {
		return fd, nil
	}
	return s.reopen()
}

// reopen opens the last levels again. As many stay open as one more descent
// leaves room for; otherwise each step up a deep tree would walk from the root.
func (s *dirStack) reopen() (int, error) {
	fd := s.root
	for i := range s.levels {
		l := &s.levels[i]
		next := l.fd
		if next == closed {
			var err error
			if next, err = openDirAt(fd, l.name); err != nil {
				s.drop(fd, i-1)
				return closed, err
			}
		}
		s.drop(fd, i-1)
		if l.fd == closed && i >= len(s.levels)-maxOpenDirs/2 {
			l.fd, l.reopened = next, true
			s.open++
		}
		fd = next
	}
	return fd, nil
}

// takeReopened reports whether the top one's descriptor is another than when it
// was last asked, and so has lost its position.
func (s *dirStack) takeReopened() bool {
	if len(s.levels) == 0 {
		return false
	}
	l := &s.levels[len(s.levels)-1]
	reopened := l.reopened
	l.reopened = false
	return reopened
}

// drop closes fd if level i does not hold it.
func (s *dirStack) drop(fd, i int) {
	if i >= 0 && s.levels[i].fd != fd {
		release(fd)
	}
}

// push makes the directory fd, named name in the top one, the new top. The
// stack owns fd from here on.
func (s *dirStack) push(name string, fd int) {
	if s.open == maxOpenDirs {
		for i := range s.levels {
			if l := &s.levels[i]; l.fd != closed {
				release(l.fd)
				l.fd = closed
				s.open--
				break
			}
		}
	}
	s.levels = append(s.levels, level{name: name, fd: fd})
	s.open++
}

// pop goes one directory up.
func (s *dirStack) pop() {
	l := s.levels[len(s.levels)-1]
	s.levels = s.levels[:len(s.levels)-1]
	if l.fd != closed {
		release(l.fd)
		s.open--
	}
}

// popTo goes up to the deepest directory that the path shares with elements and
// returns how many elements that is.
func (s *dirStack) popTo(elements []string) int {
	same := 0
	for same < len(s.levels) && same < len(elements) && s.levels[same].name == elements[same] {
		same++
	}
	for len(s.levels) > same {
		s.pop()
	}
	return same
}

// close closes everything, the root included.
func (s *dirStack) close() {
	s.popTo(nil)
	release(s.root)
}
