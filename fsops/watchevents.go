//go:build linux

package fsops

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"
)

// listedName is a name in a directory.
type listedName struct {
	dir  *watchDir
	name string
}

// maxListed bounds the events of listing new directories that wait to be
// reported; beyond, a directory gets an EventOverflow instead.
const maxListed = 64 << 10

// begin sets the first watches. The thread has the user's rights.
func (w *Watcher) begin(ended func() error) error {
	// The path itself may be a symbolic link; and IN_ATTRIB tells when a file
	// that somebody has open loses its name.
	wd, err := w.add(w.tree.abs, w.mask&^unix.IN_DONT_FOLLOW|unix.IN_ATTRIB)
	if err != nil {
		return err
	}
	w.tree.root.wd = wd
	w.tree.byWD[wd] = w.tree.root
	var info FileInfo
	err = statInto(&info, unix.AT_FDCWD, w.tree.abs, 0)
	w.hasLinks = err == nil && info.Nlink > 0
	if !w.opts.Recursive {
		return nil
	}
	return w.addBelow(ended, w.tree.root, false)
}

// add sets one watch.
func (w *Watcher) add(abs string, mask uint32) (wd int, err error) {
	err = retry(func() error {
		wd, err = unix.InotifyAddWatch(w.fd, abs, mask)
		return err
	})
	if errors.Is(err, unix.ENOSPC) {
		return -1, fmt.Errorf("%w: max_user_watches", ErrWatchLimit)
	}
	return wd, err
}

// addBelow watches the directories below dir and, if report is set, queues an
// EventCreate for everything in them. Its error is that of ended, if not nil, or
// without report ErrWatchLimit.
func (w *Watcher) addBelow(ended func() error, dir *watchDir, report bool) error {
	todo := []*watchDir{dir}
	for len(todo) > 0 {
		if ended != nil {
			if err := ended(); err != nil {
				return err
			}
		}
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		names, err := w.list(d, report)
		if err != nil {
			w.incomplete(d.rel(), err)
		}
		for _, name := range names {
			child, err := w.addDir(d, name)
			if !report && errors.Is(err, ErrWatchLimit) {
				return err
			}
			if err != nil {
				w.incomplete(joinRel(d.rel(), name), err)
			} else if child != nil {
				todo = append(todo, child)
			}
		}
	}
	return nil
}

// addDir watches the directory name in d. It returns nil where there is
// nothing to list: it is gone, or was watched and listed already.
func (w *Watcher) addDir(d *watchDir, name string) (*watchDir, error) {
	wd, err := w.add(joinPath(w.tree.absPath(d), name), w.mask|unix.IN_ONLYDIR)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	have := w.tree.byWD[wd]
	if have != nil {
		// The same directory: moved here, and its event is still to come.
		if have != w.tree.root && (have.parent != d || have.name != name) {
			if have.parent.children[have.name] == have {
				delete(have.parent.children, have.name)
			}
			w.tree.attach(have, d, name)
			w.movedBack(have)
		}
		return nil, nil
	}
	child := &watchDir{wd: wd}
	w.tree.byWD[wd] = child
	w.tree.attach(child, d, name)
	return child, nil
}

// list returns the directories in d, and reports everything in it if asked to.
func (w *Watcher) list(d *watchDir, report bool) (dirs []string, err error) {
	fd, err := w.fs.openPath(w.tree.absPath(d), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	reader := newDirentReader(fd)
	defer reader.release()
	rel := d.rel()
	for {
		var entry DirEntry
		ok, err := reader.next(&entry)
		if err != nil || !ok {
			return dirs, err
		}
		path := joinRel(rel, entry.Name)
		if w.exclude.Match(path) {
			continue
		}
		if entry.Type == 0 {
			fillInfo(fd, &entry, new(FileInfo))
		}
		isDir := entry.Type == unix.S_IFDIR
		if isDir {
			dirs = append(dirs, entry.Name)
		}
		if !report {
			continue
		}
		if len(w.queue) >= maxListed {
			w.incomplete(rel, nil)
			report = false
			continue
		}
		w.listed[listedName{d, entry.Name}] = struct{}{}
		w.push(Event{Kind: EventCreate, Path: path, IsDir: isDir})
	}
}

func (w *Watcher) push(e Event) { w.queue = append(w.queue, queued{Event: e}) }

// incomplete reports that not everything about the directory rel is known.
func (w *Watcher) incomplete(rel string, err error) {
	if rel == "" {
		rel = "."
	}
	w.push(Event{Kind: EventOverflow, Path: rel, IsDir: true, Err: pathError("watch", rel, err)})
}

// handle queues what a read returned; nothing, after a pause. The thread has the
// user's rights.
func (w *Watcher) handle(buf []byte) {
	if w.listed == nil {
		w.listed = map[listedName]struct{}{}
	}
	// A read that did not fill the buffer has emptied the kernel's queue: what
	// had been listed before it has had its event.
	drained := len(buf) < len(w.buf)-unix.SizeofInotifyEvent-unix.NAME_MAX-1
	w.listedBefore, w.listed = w.listed, map[listedName]struct{}{}
	for len(buf) >= unix.SizeofInotifyEvent && !w.gone {
		wd := int(int32(binary.NativeEndian.Uint32(buf)))
		mask := binary.NativeEndian.Uint32(buf[4:])
		cookie := binary.NativeEndian.Uint32(buf[8:])
		size := int(binary.NativeEndian.Uint32(buf[12:]))
		name := buf[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size]
		buf = buf[unix.SizeofInotifyEvent+size:]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		w.event(wd, mask, cookie, string(name))
	}
	if !drained {
		maps.Copy(w.listed, w.listedBefore)
	}
	w.listedBefore = nil
	if drained || w.gone {
		w.settleMoves()
	}
}

// event queues what one event of the kernel means.
func (w *Watcher) event(wd int, mask, cookie uint32, name string) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		w.overflow()
		return
	}
	dir := w.tree.byWD[wd]
	switch {
	case dir == nil:
	case mask&unix.IN_IGNORED != 0:
		w.tree.forget(dir)
		if dir == w.tree.root {
			w.end()
		}
	case name == "":
		w.selfEvent(dir, mask)
	default:
		w.nameEvent(dir, mask, cookie, name)
	}
}

// selfEvent is about a watched directory itself. All but the root's are known
// from the directory that it is in.
func (w *Watcher) selfEvent(dir *watchDir, mask uint32) {
	if dir != w.tree.root {
		return
	}
	isDir := mask&unix.IN_ISDIR != 0
	switch {
	case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT) != 0:
		w.end()
	case mask&unix.IN_MODIFY != 0:
		w.push(Event{Kind: EventModify, Path: ".", IsDir: isDir})
	case mask&unix.IN_CLOSE_WRITE != 0:
		w.push(Event{Kind: EventCloseWrite, Path: ".", IsDir: isDir})
	case mask&unix.IN_ATTRIB != 0:
		// The kernel tells that the file has lost a link before it takes the
		// name away: who looks in between finds the file, without links.
		var info FileInfo
		err := statInto(&info, unix.AT_FDCWD, w.tree.abs, 0)
		if errors.Is(err, unix.ENOENT) || err == nil && info.Nlink == 0 && w.hasLinks {
			w.end()
			return
		}
		w.push(Event{Kind: EventAttrib, Path: ".", IsDir: isDir})
	}
}

// nameEvent is about a name in a watched directory.
func (w *Watcher) nameEvent(dir *watchDir, mask, cookie uint32, name string) {
	path := joinRel(dir.rel(), name)
	if w.exclude.Match(path) {
		return
	}
	e := Event{Path: path, IsDir: mask&unix.IN_ISDIR != 0}
	key := listedName{dir, name}
	switch {
	case mask&unix.IN_CREATE != 0:
		if !w.forgetListed(key) {
			w.created(dir, name, e)
		}
	case mask&unix.IN_MOVED_TO != 0:
		w.movedTo(dir, cookie, name, e)
	case mask&unix.IN_MOVED_FROM != 0:
		w.forgetListed(key)
		e.Kind = EventRemove
		w.movedFrom(dir, cookie, name, e)
	case mask&unix.IN_DELETE != 0:
		w.forgetListed(key)
		w.tree.detach(dir, name)
		e.Kind = EventRemove
		w.push(e)
	case mask&unix.IN_MODIFY != 0:
		e.Kind = EventModify
		w.push(e)
	case mask&unix.IN_CLOSE_WRITE != 0:
		e.Kind = EventCloseWrite
		w.push(e)
	case mask&unix.IN_ATTRIB != 0:
		e.Kind = EventAttrib
		w.push(e)
	}
}

// forgetListed reports whether the file was reported by listing its directory;
// its next event is then about something else.
func (w *Watcher) forgetListed(key listedName) bool {
	_, now := w.listed[key]
	_, before := w.listedBefore[key]
	delete(w.listed, key)
	delete(w.listedBefore, key)
	return now || before
}

// created queues a creation and, for a directory, everything in it.
func (w *Watcher) created(dir *watchDir, name string, e Event) {
	e.Kind = EventCreate
	w.push(e)
	if !e.IsDir || !w.opts.Recursive {
		return
	}
	child, err := w.addDir(dir, name)
	if err != nil {
		w.incomplete(e.Path, err)
	} else if child != nil {
		// Without an end: half of it would be a watch with holes. With report
		// set it never fails; what does is an event.
		_ = w.addBelow(nil, child, true)
	}
}

// end queues the last event.
func (w *Watcher) end() {
	if !w.gone {
		w.push(Event{Kind: EventGone, Path: "."})
		w.gone = true
	}
}

// overflow reports lost events and finds out again which directories there are:
// some may have been made, moved or removed.
func (w *Watcher) overflow() {
	// Other halves that have not come are among what was lost.
	for i := range w.queue {
		if w.queue[i].state == moveWaits {
			w.queue[i].state = settled
		}
		w.queue[i].dir = nil
	}
	w.push(Event{Kind: EventOverflow, Path: ".", IsDir: true})
	if !w.opts.Recursive {
		return
	}
	before := w.tree.byWD
	root := w.tree.root
	root.children = nil
	w.tree.byWD = map[int]*watchDir{root.wd: root}
	if err := w.addBelow(nil, root, false); err != nil {
		w.incomplete("", err)
	}
	for wd := range before {
		if w.tree.byWD[wd] == nil {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
}
