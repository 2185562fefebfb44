//go:build linux

package fsops

import (
	"golang.org/x/sys/unix"
)

// watchDir is a directory with a watch. A path is put together only when an
// event needs it, so that renaming a directory with thousands below it costs
// nothing.
type watchDir struct {
	parent   *watchDir // nil for the root
	name     string
	wd       int
	children map[string]*watchDir // nil for none
}

// watchTree is the watched directories, and the root even where it is a file.
type watchTree struct {
	abs  string // the watched path
	root *watchDir
	byWD map[int]*watchDir
}

func (t *watchTree) init(abs string) {
	t.abs = abs
	t.root = &watchDir{wd: -1}
	t.byWD = map[int]*watchDir{}
}

// rel returns the path below the root; "" for the root.
func (d *watchDir) rel() string {
	if d.parent == nil {
		return ""
	}
	return joinRel(d.parent.rel(), d.name)
}

func (t *watchTree) absPath(d *watchDir) string {
	if d.parent == nil {
		return t.abs
	}
	return joinPath(t.abs, d.rel())
}

// attach puts d below parent. What had the name there is no longer of interest:
// it was removed or replaced.
func (t *watchTree) attach(d, parent *watchDir, name string) {
	d.parent, d.name = parent, name
	if parent.children == nil {
		parent.children = map[string]*watchDir{}
	}
	parent.children[name] = d
}

// detach takes the child called name off, if it is there.
func (t *watchTree) detach(parent *watchDir, name string) *watchDir {
	d := parent.children[name]
	if d != nil {
		delete(parent.children, name)
	}
	return d
}

// forget drops d, whose watch the kernel has removed.
func (t *watchTree) forget(d *watchDir) {
	delete(t.byWD, d.wd)
	if d.parent != nil && d.parent.children[d.name] == d {
		delete(d.parent.children, d.name)
	}
}

// unwatch removes the watches of d, which was moved elsewhere, and of all below
// it.
func (t *watchTree) unwatch(fd int, d *watchDir) {
	for _, child := range d.children {
		t.unwatch(fd, child)
	}
	delete(t.byWD, d.wd)
	_, _ = unix.InotifyRmWatch(fd, uint32(d.wd)) // EINVAL: the kernel was faster
}
