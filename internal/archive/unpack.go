//go:build linux || darwin

package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Unpack restores the archive read from r below the directory dest, which is
// created, with its parents, if it is missing. It reads r to its end.
//
// Nothing outside dest is touched, whatever the archive says: a name that is
// absolute or has a ".." element, one whose way leads through a symbolic link
// (from the archive or there before) and a hard link's target of that sort end
// the Unpack with an [*UnsafeEntryError]. Symbolic links may point anywhere;
// they are made and never followed. dest itself and what is above it may be
// reached through links.
//
// An archive's entry for dest itself ("./") sets its mode, owner and times only
// if Unpack created it: unpacking into /tmp does not change /tmp.
//
// No file is ever seen half written under its name once it exceeds 256 KiB or
// replaces another; a smaller new one is written when all of it has arrived. A
// temporary file (".unpack-…") is removed on failure. After an error what came
// before it stays, Summary says how much, and directories have their final
// modes. A stream that ends without an end marker gives an error that wraps
// io.ErrUnexpectedEOF; the system's errors are *fs.PathError or *os.LinkError
// naming the path.
//
// ctx is looked at between entries and writes; to interrupt a blocked read the
// caller closes r. Unpack closes nothing.
func Unpack(ctx context.Context, r io.Reader, dest string, opts UnpackOptions) (Summary, error) {
	exclude, err := newExcluder(opts.Exclude)
	if err != nil {
		return Summary{}, err
	}
	u := &unpacker{
		opts: opts, dest: dest, exclude: exclude,
		in:    decoder{in: newSource(r)},
		users: idCache{lookup: opts.LookupUser}, groups: idCache{lookup: opts.LookupGroup},
	}
	if err := u.openDest(); err != nil {
		return Summary{}, err
	}
	defer u.dirs.close()
	defer u.linkDirs.close()
	err = u.entries(ctx)
	if derr := u.finishDirs(); err == nil {
		err = derr
	}
	return u.sum, err
}

// unpacker is one Unpack.
type unpacker struct {
	opts          UnpackOptions
	dest          string
	exclude       excluder
	createdDest   bool
	in            decoder
	users, groups idCache
	dirs          dirStack // where entries go; its root is dest
	linkDirs      dirStack // where hard links' targets are, so that dirs may stay
	elements      []string // the entry's name, reused
	linkElements  []string // its link's target, reused
	later         []dirMeta
	maker         maker
	sum           Summary
	count         int64
}

// openDest opens dest, or creates it.
func (u *unpacker) openDest() error {
	fd, err := openDir(unix.AT_FDCWD, u.dest, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(u.dest, 0o777); err != nil {
			return err
		}
		u.createdDest = true
		fd, err = openDir(unix.AT_FDCWD, u.dest, 0)
	}
	if err != nil {
		return pathError("open", u.dest, err)
	}
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		release(fd)
		return pathError("dup", u.dest, err)
	}
	u.dirs.root, u.linkDirs.root = fd, second
	return nil
}

// entries restores entry after entry.
func (u *unpacker) entries(ctx context.Context) error {
	var h header
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := u.in.next(&h)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		u.count++
		if limit := u.opts.Limits.MaxEntries; limit > 0 && u.count > limit {
			return &LimitError{What: "entries", Max: limit}
		}
		if limit := u.opts.Limits.MaxBytes; limit > 0 && u.in.left > limit-u.sum.Bytes {
			return &LimitError{What: "bytes", Max: limit}
		}
		u.progress(h.name)
		if err := u.entry(ctx, &h); err != nil {
			return err
		}
	}
}

func (u *unpacker) progress(name string) {
	if u.opts.Progress != nil {
		u.opts.Progress(Progress{Name: name, Entries: u.count, Bytes: u.sum.Bytes})
	}
}

// entry restores one entry.
func (u *unpacker) entry(ctx context.Context, h *header) error {
	var err error
	if u.elements, err = splitName(u.elements[:0], h.name, h.name); err != nil {
		return err
	}
	if n := u.opts.StripComponents; n > 0 {
		u.elements = u.elements[min(n, len(u.elements)):]
	}
	if len(u.elements) == 0 {
		return u.rootEntry(h)
	}
	if u.exclude.excludesWay(u.elements, h.kind == kindDir) {
		u.sum.Excluded++
		return nil
	}
	last := len(u.elements) - 1
	dir, err := u.enter(&u.dirs, u.elements[:last], h, true)
	if err != nil {
		return err
	}
	base := u.elements[last]
	switch h.kind {
	case kindFile:
		return u.file(ctx, dir, base, h)
	case kindDir:
		return u.directory(dir, base, h)
	case kindSymlink:
		return u.symlink(dir, base, h)
	case kindHardlink:
		return u.hardlink(dir, base, h)
	case kindFIFO, kindChar, kindBlock:
		return u.special(dir, base, h)
	}
	u.sum.note(h.name, ReasonUnknownType, nil)
	return nil
}

// rootEntry is an entry that names dest itself, perhaps by StripComponents.
func (u *unpacker) rootEntry(h *header) error {
	switch {
	case h.kind == kindDir:
		u.sum.Dirs++
		if u.createdDest {
			u.postpone(nil, h, false)
		}
	case u.opts.StripComponents > 0:
		u.sum.note(h.name, ReasonStripped, nil)
	default:
		return &UnsafeEntryError{Name: h.name, Reason: "names the destination itself"}
	}
	return nil
}

// splitName appends the elements of name, which is or is in the entry entry.
// Empty elements and "." are dropped.
func splitName(elements []string, name, entry string) ([]string, error) {
	if strings.HasPrefix(name, "/") {
		return nil, &UnsafeEntryError{Name: entry, Reason: "name is absolute"}
	}
	for name != "" {
		var e string
		e, name, _ = strings.Cut(name, "/")
		switch e {
		case "", ".":
		case "..":
			return nil, &UnsafeEntryError{Name: entry, Reason: `name contains ".."`}
		default:
			elements = append(elements, e)
		}
	}
	return elements, nil
}

// enter moves a stack to the directory that elements name, creating what is
// missing if create is set, and returns its descriptor.
func (u *unpacker) enter(s *dirStack, elements []string, h *header, create bool) (int, error) {
	before := len(s.levels)
	same := s.popTo(elements)
	if create && (same < before || same < len(elements)) {
		u.maker.forget()
	}
	for i := same; i < len(elements); i++ {
		dir, err := s.top()
		if err != nil {
			return closed, pathError("open", u.path(elements[:i]), err)
		}
		fd, err := openDirAt(dir, elements[i])
		if errors.Is(err, unix.ENOENT) && create {
			fd, err = u.implicitDir(dir, elements[i])
		}
		if err != nil {
			return closed, u.enterError(dir, elements[:i+1], h, err)
		}
		s.push(elements[i], fd)
	}
	dir, err := s.top()
	if err != nil {
		return closed, pathError("open", u.path(elements), err)
	}
	return dir, nil
}

// implicitDir creates a directory which the archive needs and has not (yet)
// described, with the process's umask.
func (u *unpacker) implicitDir(dir int, base string) (int, error) {
	if err := unix.Mkdirat(dir, base, modePerm); err != nil && !errors.Is(err, unix.EEXIST) {
		return closed, err
	}
	fd, err := openDirAt(dir, base)
	if o := u.opts.Owner; err == nil && o != nil {
		if err = unix.Fchown(fd, int(o.UID), int(o.GID)); err != nil {
			release(fd)
		}
	}
	return fd, err
}

// enterError tells a link in the way from other reasons why the last of
// elements is not a directory that can be entered.
func (u *unpacker) enterError(dir int, elements []string, h *header, err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if st, serr := statAt(dir, elements[len(elements)-1]); serr == nil && st.typ() == unix.S_IFLNK {
			return &UnsafeEntryError{Name: h.name, Reason: fmt.Sprintf("%q is a symbolic link", strings.Join(elements, "/"))}
		}
	}
	return pathError("open", u.path(elements), err)
}

// symlink restores a symbolic link.
func (u *unpacker) symlink(dir int, base string, h *header) error {
	name, err := u.place(dir, base, h, func(name string) error {
		return unix.Symlinkat(h.link, dir, name)
	})
	if name == "" || err != nil {
		return err
	}
	if err := u.finishUnopened(dir, name, h); err != nil {
		u.discard(dir, name)
		return err
	}
	u.sum.Symlinks++
	return u.settle(dir, base, name, h)
}

// special restores a FIFO or device node.
func (u *unpacker) special(dir int, base string, h *header) error {
	if !u.opts.Specials {
		u.sum.note(h.name, ReasonSpecial, nil)
		return nil
	}
	masked := *h
	masked.mode &^= u.opts.Umask
	name, err := u.place(dir, base, h, func(name string) error {
		return makeSpecial(dir, name, &masked)
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		u.sum.note(h.name, ReasonSpecial, err)
		return nil
	}
	if name == "" || err != nil {
		return err
	}
	if err := u.finishUnopened(dir, name, h); err != nil {
		u.discard(dir, name)
		return err
	}
	u.sum.Specials++
	return u.settle(dir, base, name, h)
}

// hardlink restores a further name of a file that is in dest.
func (u *unpacker) hardlink(dir int, base string, h *header) error {
	var err error
	if u.linkElements, err = splitName(u.linkElements[:0], h.link, h.name); err != nil {
		return err
	}
	if n := u.opts.StripComponents; n > 0 {
		u.linkElements = u.linkElements[min(n, len(u.linkElements)):]
	}
	last := len(u.linkElements) - 1
	if last < 0 {
		return &UnsafeEntryError{Name: h.name, Reason: "hard link to the destination itself"}
	}
	if u.exclude.excludesWay(u.linkElements, false) {
		u.sum.note(h.name, ReasonNoTarget, nil)
		return nil
	}
	from, err := u.enter(&u.linkDirs, u.linkElements[:last], h, false)
	if err != nil {
		return err
	}
	target := u.linkElements[last]
	name, err := u.place(dir, base, h, func(name string) error {
		return unix.Linkat(from, target, dir, name, 0)
	})
	if name == "" || err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) && !errors.Is(err, fs.ErrExist) {
			return &os.LinkError{Op: "link", Old: u.path(u.linkElements), New: u.path(u.elements), Err: errno}
		}
		return err
	}
	u.sum.Hardlinks++
	return u.settle(dir, base, name, h)
}

// path is where elements are in the system, for errors.
func (u *unpacker) path(elements []string) string {
	return filepath.Join(u.dest, strings.Join(elements, "/"))
}

// entryError says what failed for the entry at hand.
func (u *unpacker) entryError(op string, err error) error {
	return pathError(op, u.path(u.elements), err)
}
