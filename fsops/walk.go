//go:build linux

package fsops

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// WalkEntry is one file that [FS.Walk] met.
type WalkEntry struct {
	Path  string // below the root of the walk, "." for the root itself
	Depth int    // 0 for the root, 1 for what is in it
	Entry DirEntry

	// Err says why the content of this directory is missing from the walk, or
	// is not all there. Such an entry comes after the one that announced the
	// directory, and the walk continues after it.
	Err error
}

// WalkOptions are the options of [FS.Walk]. The zero value reports everything.
type WalkOptions struct {
	MaxDepth      int      // report nothing deeper; 0 is no limit
	Exclude       []string // neither report nor descend into these; see [NewMatcher]
	Stat          bool     // fill Entry.Info
	OneFileSystem bool     // do not descend into mount points
}

// walkBatch is how many entries a callback gets at most.
const walkBatch = 512

// Walk reports path and everything below it: each directory before what is in
// it, and what is in it together. Symbolic links below path are reported and
// never followed; path itself may be one. A directory that cannot be read is
// reported with its error and does not end the walk; only an error of path
// itself, of fn, and the end of ctx do.
//
// The batches of fn are as in [FS.ReadDir]: the slice and its infos are used
// again, and fn runs with the user's rights. Memory grows with the depth and
// with the number of directories in one directory, not with the tree.
func (f *FS) Walk(ctx context.Context, path string, opts WalkOptions, fn func([]WalkEntry) error) error {
	matcher, err := NewMatcher(opts.Exclude)
	if err != nil {
		return err
	}
	var fnErr error
	err = f.withPath(ctx, "walk", path, func(abs string) error {
		w := &walker{ended: ctx.Err, opts: opts, exclude: matcher, fn: fn}
		if opts.Stat {
			w.infos = make([]FileInfo, walkBatch)
		}
		rootErr := w.root(f, abs)
		if rootErr == nil {
			rootErr = w.flush()
		}
		fnErr = w.stopped
		return rootErr
	})
	if fnErr != nil {
		return fnErr
	}
	return err
}

type walker struct {
	ended   func() error // says whether the caller has given up
	opts    WalkOptions
	exclude *Matcher
	fn      func([]WalkEntry) error
	rootDev uint64

	batch   []WalkEntry
	infos   []FileInfo
	stopped error // of fn or ctx: the walk is over
}

func (w *walker) root(f *FS, abs string) error {
	info, err := statAt(unix.AT_FDCWD, abs, 0)
	if err != nil {
		return err
	}
	entry := WalkEntry{Path: ".", Entry: DirEntry{Name: info.Name, Type: info.Mode & unix.S_IFMT, Ino: info.Ino}}
	if w.opts.Stat {
		entry.Entry.Info = info
	}
	if err := w.add(entry); err != nil || !info.IsDir() {
		return err
	}
	node, err := f.openRootNode(abs)
	if err != nil {
		return err
	}
	defer node.drop()
	w.rootDev = node.dev
	return w.visit(node, "")
}

// visit reports the content of node, whose path is rel ("" for the root). An
// error is one that ends the walk.
func (w *walker) visit(node *dirNode, rel string) error {
	subdirs, err := w.list(node, rel)
	if w.stopped != nil {
		return w.stopped
	}
	if err != nil {
		if err := w.addError(node, rel, err); err != nil {
			return err
		}
	}
	for _, name := range subdirs {
		if err := w.descend(node, name, joinRel(rel, name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) descend(node *dirNode, name, rel string) error {
	child, err := node.open(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // removed or replaced since it was listed
	}
	if err != nil {
		return w.add(WalkEntry{Path: rel, Depth: node.depth + 1, Entry: DirEntry{Name: name, Type: unix.S_IFDIR}, Err: err})
	}
	if !w.opts.OneFileSystem || child.dev == w.rootDev {
		err = w.visit(child, rel)
	}
	if closeErr := child.close(); closeErr != nil && err == nil {
		return w.addError(node, rel, closeErr)
	}
	return err
}

// list reports the entries of node and returns the directories to descend into.
func (w *walker) list(node *dirNode, rel string) (subdirs []string, err error) {
	if w.opts.MaxDepth > 0 && node.depth >= w.opts.MaxDepth {
		return nil, nil
	}
	reader := newDirentReader(node.fd)
	defer reader.release()
	for {
		entry := WalkEntry{Depth: node.depth + 1}
		ok, err := reader.next(&entry.Entry)
		if err != nil || !ok {
			return subdirs, err
		}
		entry.Path = joinRel(rel, entry.Entry.Name)
		if w.exclude.Match(entry.Path) {
			continue
		}
		if w.opts.Stat || entry.Entry.Type == 0 {
			if !w.describe(node, &entry.Entry) {
				continue
			}
		}
		if entry.Entry.Type == unix.S_IFDIR {
			subdirs = append(subdirs, entry.Entry.Name)
		}
		if err := w.add(entry); err != nil {
			return nil, err
		}
	}
}

// describe fills Info or, where only the type is wanted, that.
func (w *walker) describe(node *dirNode, entry *DirEntry) bool {
	if w.opts.Stat {
		return fillInfo(node.fd, entry, &w.infos[len(w.batch)])
	}
	ok := fillInfo(node.fd, entry, new(FileInfo))
	entry.Info, entry.Err = nil, nil
	return ok
}

// addError reports that the directory rel, or its rest, could not be read.
func (w *walker) addError(node *dirNode, rel string, err error) error {
	entry := WalkEntry{Path: rel, Depth: node.depth, Entry: DirEntry{Type: unix.S_IFDIR, Ino: node.ino}, Err: err}
	if rel == "" {
		entry.Path = "."
	}
	entry.Entry.Name = entry.Path[strings.LastIndexByte(entry.Path, '/')+1:]
	return w.add(entry)
}

func (w *walker) add(entry WalkEntry) error {
	w.batch = append(w.batch, entry)
	if len(w.batch) < walkBatch {
		return nil
	}
	return w.flush()
}

// flush hands the batch out. Its error ends the walk.
func (w *walker) flush() error {
	if w.stopped == nil {
		w.stopped = w.ended()
	}
	if w.stopped == nil && len(w.batch) > 0 {
		w.stopped = w.fn(w.batch)
	}
	w.batch = w.batch[:0]
	return w.stopped
}

// joinRel puts name behind the relative path rel, which is "" for the root.
func joinRel(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}
