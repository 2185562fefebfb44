//go:build linux || darwin

package archive

import (
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// owner is whom an entry is to belong to; if not set, whoever creates it.
type owner struct {
	set      bool
	uid, gid uint32
}

// idCache asks for each name's id once.
type idCache struct {
	lookup func(string) (uint32, bool)
	known  map[string]cachedID
}

type cachedID struct {
	id uint32
	ok bool
}

func (c *idCache) id(name string) (uint32, bool) {
	if c.lookup == nil || name == "" {
		return 0, false
	}
	entry, seen := c.known[name]
	if !seen {
		entry.id, entry.ok = c.lookup(name)
		if c.known == nil {
			c.known = make(map[string]cachedID)
		}
		if len(c.known) < 1<<16 { // names are the archive's to invent
			c.known[strings.Clone(name)] = entry
		}
	}
	return entry.id, entry.ok
}

// owner resolves whom an entry is to belong to.
func (u *unpacker) owner(h *header) owner {
	if o := u.opts.Owner; o != nil {
		return owner{true, o.UID, o.GID}
	}
	if !u.opts.PreserveOwner {
		return owner{}
	}
	o := owner{true, clampID(h.uid), clampID(h.gid)}
	if id, ok := u.users.id(h.uname); ok {
		o.uid = id
	}
	if id, ok := u.groups.id(h.gname); ok {
		o.gid = id
	}
	return o
}

// clampID maps ids that no system has to nobody's: the largest id means "leave
// as it is" to chown(2).
func clampID(id int64) uint32 {
	const nobody = 65534
	if id < 0 || id >= 1<<32-1 {
		return nobody
	}
	return uint32(id)
}

// firstMode is the mode to create a file with.
func (u *unpacker) firstMode(h *header, want owner) uint32 {
	if want.set && (!u.maker.known || u.maker.uid != want.uid || u.maker.gid != want.gid) {
		return 0o600
	}
	perm := h.mode & modePerm &^ u.opts.Umask
	if u.opts.Xattrs && len(h.xattrs) > 0 {
		perm |= 0o200 // see setMeta
	}
	return perm
}

// chown gives the open file to want. It reports whether the file is now the
// archive's owner's.
func (u *unpacker) chown(fd int, st *info, h *header, want owner) (bool, error) {
	if !want.set {
		return false, nil
	}
	if st.uid == want.uid && st.gid == want.gid {
		return u.opts.Owner == nil, nil
	}
	return u.chowned(unix.Fchown(fd, int(want.uid), int(want.gid)), h)
}

// chowned judges the outcome of a change of owner: where the archive's owner is
// out of reach the entry stays the caller's, with a note.
func (u *unpacker) chowned(err error, h *header) (bool, error) {
	if err == nil {
		return u.opts.Owner == nil, nil
	}
	// EINVAL: an id that the user namespace does not map.
	if u.opts.Owner == nil && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		u.sum.note(h.name, ReasonOwner, err)
		return false, nil
	}
	return false, u.entryError("chown", err)
}

// setMeta gives the open file or directory its attributes and mode, in this
// order: a file without write permission refuses attributes. st is its state
// before chown, which clears set-id bits.
func (u *unpacker) setMeta(fd int, st *info, h *header, ownerKept bool) error {
	attrs := u.opts.Xattrs && len(h.xattrs) > 0
	if attrs {
		if err := u.setXattrs(fd, h, ownerKept); err != nil {
			return err
		}
	}
	mode := u.finalMode(h, ownerKept)
	if st.mode&0o7777 == mode && mode&(modeSetUID|modeSetGID) == 0 && !attrs {
		return nil // (with attributes: an ACL changes the mode)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return u.entryError("chmod", err)
	}
	return nil
}

// finalMode is the mode that an entry ends with.
func (u *unpacker) finalMode(h *header, ownerKept bool) uint32 {
	mode := h.mode &^ u.opts.Umask
	if h.kind != kindDir && !ownerKept {
		mode &^= modeSetUID | modeSetGID
	}
	return mode
}

// finishUnopened gives a link or special file its owner and time by name; what
// the name is, even a link, takes them.
func (u *unpacker) finishUnopened(dir int, name string, h *header) error {
	if want := u.owner(h); want.set {
		err := chownUnopened(dir, name, want.uid, want.gid)
		if _, err := u.chowned(err, h); err != nil {
			return err
		}
	}
	if err := setLinkTime(dir, name, h.mtime); err != nil {
		return u.entryError("utimes", err)
	}
	return nil
}

// dirMeta is what a directory gets at the very end, when nothing is created in
// it any more: that would change its time, or be refused by its mode.
type dirMeta struct {
	path    string // elements joined by slashes; empty for dest
	mode    uint32
	owner   owner
	mtime   time.Time
	xattrs  []xattr
	existed bool
}

// directory creates a directory, open to its owner alone for now.
func (u *unpacker) directory(dir int, base string, h *header) error {
	err := unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		st, serr := statAt(dir, base)
		switch {
		case serr != nil:
			return u.entryError("lstat", serr)
		case st.typ() == unix.S_IFLNK:
			return &UnsafeEntryError{Name: h.name, Reason: "exists as a symbolic link"}
		case st.typ() != unix.S_IFDIR:
			return u.entryError("mkdir", unix.ENOTDIR)
		}
		u.sum.Dirs++
		if u.opts.Overwrite != OverwriteKeep {
			u.postpone(u.elements, h, true)
			u.openUp(dir, base, st.mode)
		}
		return nil
	}
	if err != nil {
		return u.entryError("mkdir", err)
	}
	u.sum.Dirs++
	u.postpone(u.elements, h, false)
	return nil
}

// openUp lets the owner of a directory that exists work in it until it gets the
// archive's mode: a read-only tree can be unpacked over itself. Where that is
// not permitted, what is to be created in it will say so.
func (u *unpacker) openUp(dir int, base string, mode uint32) {
	if mode&0o700 == 0o700 {
		return
	}
	if fd, err := openDirAt(dir, base); err == nil {
		_ = unix.Fchmod(fd, mode&0o7777|0o700)
		release(fd)
	}
}

func (u *unpacker) postpone(elements []string, h *header, existed bool) {
	m := dirMeta{path: strings.Join(elements, "/"), mode: h.mode, owner: u.owner(h), mtime: h.mtime, existed: existed}
	if u.opts.Xattrs {
		m.xattrs = h.xattrs
	}
	u.later = append(u.later, m)
}

// finishDirs gives all directories their metadata, each after those in it. Of
// several entries for one the last counts. It goes on after an error and
// returns the first.
func (u *unpacker) finishDirs() error {
	slices.SortStableFunc(u.later, func(a, b dirMeta) int { return strings.Compare(a.path, b.path) })
	var first error
	for i := len(u.later) - 1; i >= 0; i-- {
		m := &u.later[i]
		if i+1 < len(u.later) && u.later[i+1].path == m.path {
			continue
		}
		err := u.finishDir(m)
		if m.existed && errors.Is(err, unix.EPERM) {
			// It is somebody else's, and was before.
			u.sum.note(m.path, ReasonDir, err)
		} else if err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (u *unpacker) finishDir(m *dirMeta) error {
	u.elements = u.elements[:0]
	if m.path != "" {
		u.elements = append(u.elements, strings.Split(m.path, "/")...)
	}
	h := &header{kind: kindDir, name: m.path, mode: m.mode, mtime: m.mtime, xattrs: m.xattrs}
	fd, err := u.enter(&u.dirs, u.elements, h, false)
	if err != nil {
		return err
	}
	st, err := statFD(fd)
	if err != nil {
		return u.entryError("stat", err)
	}
	kept, err := u.chown(fd, &st, h, m.owner)
	if err != nil {
		return err
	}
	if err := u.setMeta(fd, &st, h, kept); err != nil {
		return err
	}
	if err := setFileTime(fd, fd, ".", h.mtime); err != nil {
		return u.entryError("utimes", err)
	}
	return nil
}
