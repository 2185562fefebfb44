//go:build linux

package fsops

import (
	"golang.org/x/sys/unix"
)

// dirNode is an open directory on the way down a tree. Everything below it is
// reached through descriptors, one name at a time and never through a symbolic
// link, so nobody who renames things meanwhile can lead the way elsewhere.
type dirNode struct {
	parent   *dirNode // nil for the root
	fd       int      // -1 while lent back, see keepOpen
	dev, ino uint64
	depth    int
	pinned   bool // keep fd: the way into a child was a symbolic link, its ".." leads elsewhere
}

// keepOpen is how many directories of one descent stay open. Higher ones are
// closed and opened again on the way back, so a tree may be deeper than the
// limit on descriptors.
const keepOpen = 64

// openRootNode opens the directory a descent begins at, through symbolic links.
func (f *FS) openRootNode(abs string) (*dirNode, error) { return f.openRootNodeAs(abs, unix.O_RDONLY) }

func (f *FS) openRootNodeAs(abs string, access int) (*dirNode, error) {
	fd, err := f.openPath(abs, access|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return newDirNode(nil, fd)
}

// newDirNode takes the descriptor over, also on an error.
func newDirNode(parent *dirNode, fd int) (*dirNode, error) {
	var info FileInfo
	if err := statInto(&info, fd, "", unix.AT_EMPTY_PATH); err != nil {
		closeFD(fd)
		return nil, err
	}
	node := &dirNode{parent: parent, fd: fd, dev: info.Dev, ino: info.Ino}
	if parent != nil {
		node.depth = parent.depth + 1
	}
	return node, nil
}

// open descends into the directory name. Each open is matched by a close of the
// child before the parent is used again.
func (n *dirNode) open(name string) (*dirNode, error) { return n.openAs(name, unix.O_RDONLY) }

// openAs is open with O_PATH for a directory that is only passed through, and
// need not be readable.
func (n *dirNode) openAs(name string, access int) (*dirNode, error) {
	fd, err := openAt(n.fd, name, access|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	child, err := newDirNode(n, fd)
	if err != nil {
		return nil, err
	}
	far := n
	for range keepOpen - 1 {
		if far = far.parent; far == nil {
			return child, nil
		}
	}
	// The root stays: its ".." may lead out of what was asked for.
	if far.fd >= 0 && far.parent != nil && !far.pinned {
		closeFD(far.fd)
		far.fd = -1
	}
	return child, nil
}

// drop closes the root of a descent.
func (n *dirNode) drop() { closeFD(n.fd) }

// close ends the descent into n and makes its parent usable again; see
// reopenParent for the error.
func (n *dirNode) close() error {
	defer closeFD(n.fd)
	return n.reopenParent()
}

// reopenParent makes the parent usable while n still is. ESTALE says that n was
// moved to another directory meanwhile; the parent is then lost.
func (n *dirNode) reopenParent() error {
	p := n.parent
	if p == nil || p.fd >= 0 {
		return nil
	}
	fd, err := openAt(n.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	var info FileInfo
	err = statInto(&info, fd, "", unix.AT_EMPTY_PATH)
	if err == nil && (info.Dev != p.dev || info.Ino != p.ino) {
		err = unix.ESTALE
	}
	if err != nil {
		closeFD(fd)
		return err
	}
	p.fd = fd
	return nil
}
