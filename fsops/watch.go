//go:build linux

package fsops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// EventKind is what happened to a file.
type EventKind int

// Kinds of event.
const (
	EventCreate     EventKind = iota + 1 // made, or moved here from outside
	EventModify                          // content changed
	EventAttrib                          // mode, owner, times, links or extended attributes changed
	EventCloseWrite                      // closed by somebody who could write
	EventRemove                          // removed, or moved to outside
	EventRename                          // got another name or place within what is watched
	EventOverflow                        // events were lost: look at everything again
	EventGone                            // the watched path itself was removed, moved or unmounted; the last event
)

func (k EventKind) String() string {
	names := [...]string{"none", "create", "modify", "attrib", "close-write", "remove", "rename", "overflow", "gone"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("event kind %d", int(k))
	}
	return names[k]
}

// Event is one change.
type Event struct {
	Kind  EventKind
	Path  string // below the watched path; "." is that itself
	From  string // of EventRename, the path it had
	IsDir bool

	// Err says, with EventOverflow of one directory, why that directory is not
	// or not fully watched: [ErrWatchLimit], or it may not be read.
	Err error
}

// WatchOptions are the options of [FS.Watch]. The zero value watches a file, or
// a directory and what is directly in it.
type WatchOptions struct {
	Recursive bool // directories below as well, also those made later; symbolic links are not followed

	// Kinds are the events to report; nil is all but EventAttrib and
	// EventCloseWrite. EventOverflow and EventGone always come.
	Kinds []EventKind

	Exclude []string // neither report nor watch; see [NewMatcher]

	// Coalesce gathers events for so long after the first and reports what is
	// the same of one path once. 0 reports what there is at once.
	Coalesce time.Duration
}

// Watcher reports changes. The kernel queues them while nobody calls Next; when
// that queue is full it says so with EventOverflow. Next is for one goroutine;
// Close may be called by any.
type Watcher struct {
	fs       *FS
	path     string // as the caller wrote it
	opts     WatchOptions
	exclude  *Matcher
	mask     uint32
	coalesce time.Duration

	file  *os.File // the inotify instance
	fd    int      // of file; valid while Next runs, as Close waits for its reads
	tree  watchTree
	buf   []byte
	queue []queued // not yet returned by Next
	gone  bool     // nothing more will come

	hasLinks bool // the watched path's file system counts its links

	// Names that were reported because their new directory was listed, and
	// whose own event may still be in the kernel's queue.
	listed, listedBefore map[listedName]struct{}

	mu     sync.Mutex // guards the deadline against Close and contexts
	closed bool
}

const (
	// watchBuffer holds some thousand events of one read.
	watchBuffer = 64 << 10

	// maxEvents bounds what is gathered for one Next.
	maxEvents = 4096
)

// Watch begins to watch before it returns: what happens afterwards is reported.
// A directory that appears is watched first and listed then, so that nothing in
// it is missed; every file in it gets an EventCreate, once. Reaching the
// kernel's limits gives [ErrWatchLimit].
//
// One Watch costs one inotify instance and, recursive, one watch for each
// directory, but no thread and no goroutine.
func (f *FS) Watch(ctx context.Context, path string, opts WatchOptions) (*Watcher, error) {
	exclude, err := NewMatcher(opts.Exclude)
	if err != nil {
		return nil, err
	}
	w := &Watcher{fs: f, path: path, opts: opts, exclude: exclude, coalesce: opts.Coalesce, mask: watchMask(opts.Kinds)}
	w.buf = make([]byte, watchBuffer)
	err = f.withPath(ctx, "watch", path, func(abs string) error {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if errors.Is(err, unix.EMFILE) {
			return fmt.Errorf("%w: max_user_instances", ErrWatchLimit)
		}
		if err != nil {
			return err
		}
		w.fd, w.file = fd, os.NewFile(uintptr(fd), "inotify")
		w.tree.init(abs)
		return w.begin(ctx.Err)
	})
	if err != nil {
		if w.file != nil {
			w.file.Close()
		}
		return nil, err
	}
	return w, nil
}

// watchMask translates kinds to what inotify is asked for. What the watcher
// needs for itself is always in it.
func watchMask(kinds []EventKind) uint32 {
	const always = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK
	mask := uint32(always)
	if kinds == nil || slices.Contains(kinds, EventModify) {
		mask |= unix.IN_MODIFY
	}
	if slices.Contains(kinds, EventAttrib) {
		mask |= unix.IN_ATTRIB
	}
	if slices.Contains(kinds, EventCloseWrite) {
		mask |= unix.IN_CLOSE_WRITE
	}
	return mask
}

func (w *Watcher) wants(kind EventKind) bool {
	switch {
	case kind == EventOverflow || kind == EventGone:
		return true
	case w.opts.Kinds == nil:
		return kind != EventAttrib && kind != EventCloseWrite
	}
	return slices.Contains(w.opts.Kinds, kind)
}

// Directories returns how many watches are set: one for each directory, or one
// for a file. It is for the goroutine that calls Next.
func (w *Watcher) Directories() int { return len(w.tree.byWD) }

// Next waits for changes and returns them in order. It returns at least one, or
// an error: that of ctx, fs.ErrClosed, or io.EOF after EventGone.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	stop := context.AfterFunc(ctx, func() { w.setDeadline(longAgo) })
	defer stop()
	for {
		if events := w.take(); len(events) > 0 {
			return events, nil
		}
		if w.gone {
			return nil, io.EOF
		}
		if err := w.fill(ctx, time.Time{}); err != nil {
			return nil, err
		}
		if w.coalesce > 0 && len(w.queue) > 0 {
			w.gather(ctx)
		}
	}
}

// gather reads on for the time of coalescing. An error comes again with the
// next read; first what there is is reported.
func (w *Watcher) gather(ctx context.Context) {
	until := time.Now().Add(w.coalesce)
	for !w.gone && len(w.queue) < maxEvents && time.Now().Before(until) {
		if err := w.fill(ctx, until); err != nil {
			return
		}
	}
}

// take returns what can be reported: everything up to a move whose other half
// is still waited for.
func (w *Watcher) take() []Event {
	n := slices.IndexFunc(w.queue, func(q queued) bool { return q.state == moveWaits })
	if n < 0 {
		n = len(w.queue)
	}
	events := make([]Event, 0, n)
	for _, q := range w.queue[:n] {
		if q.state == settled && w.wants(q.Kind) {
			events = append(events, q.Event)
		}
	}
	w.queue = w.queue[n:]
	return coalesce(events)
}

// fill waits until until, or for ever, for something to read, and queues what
// it means.
func (w *Watcher) fill(ctx context.Context, until time.Time) error {
	if since, ok := w.oldestMove(); ok {
		if soon := since.Add(movePause); until.IsZero() || soon.Before(until) {
			until = soon
		}
	}
	if err := w.setDeadlineUnless(ctx, until); err != nil {
		return err
	}
	n, err := w.file.Read(w.buf)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		err = ctx.Err()
	}
	if err != nil {
		return pathError("watch", w.path, w.closedError(err))
	}
	return w.fs.do(func() error {
		return w.whileOpen(func() {
			if late {
				n = w.readNow()
			}
			w.handle(w.buf[:n])
		})
	})
}

// readNow reads what there is. A read whose deadline has passed has not looked.
func (w *Watcher) readNow() int {
	n, err := unix.Read(w.fd, w.buf)
	if err != nil {
		return 0
	}
	return n
}

// whileOpen keeps Close from giving the descriptor's number away while fn adds
// watches to it.
func (w *Watcher) whileOpen(fn func()) error {
	raw, err := w.file.SyscallConn()
	if err == nil {
		err = raw.Control(func(uintptr) { fn() })
	}
	if err != nil {
		return pathError("watch", w.path, w.closedError(err))
	}
	return nil
}

// setDeadline bounds a read that is running or to come.
func (w *Watcher) setDeadline(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		_ = w.file.SetReadDeadline(t)
	}
}

// setDeadlineUnless is setDeadline that never takes back the one by which ctx
// ended a read.
func (w *Watcher) setDeadlineUnless(ctx context.Context, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.closed {
		return pathError("watch", w.path, fs.ErrClosed)
	}
	return w.file.SetReadDeadline(t)
}

func (w *Watcher) closedError(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	return err
}

// Close ends the watch, and a Next that waits, with fs.ErrClosed. A second
// Close gives that too.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return pathError("close", w.path, fs.ErrClosed)
	}
	w.closed = true
	return w.file.Close()
}

// coalesce drops events that say nothing new: the same of one path, with
// nothing else about it in between.
func coalesce(events []Event) []Event {
	last := make(map[string]EventKind, len(events))
	kept := events[:0]
	for _, e := range events {
		if e.Kind == EventModify || e.Kind == EventAttrib || e.Kind == EventCloseWrite || e.Kind == EventOverflow {
			if last[e.Path] == e.Kind && e.Err == nil {
				continue
			}
		}
		last[e.Path] = e.Kind
		kept = append(kept, e)
	}
	return kept
}
