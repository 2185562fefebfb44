//go:build linux || darwin

package archive

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Pack writes the tree at root to w as an archive, in writes of 256 KiB.
//
// root may be a directory, whose entries are then named below its own last
// element ("dir", "dir/file"), or any other file, which becomes the only entry.
// With a slash at its end ("dir/"), and for ".", ".." and "/", the archive holds
// what is in the directory ("./", "./file"). A link at root is packed as a link,
// unless a slash follows it; links above it are followed as usual.
//
// A file that vanishes or changes while it is read does not end the Pack: the
// archive stays well formed and the Summary has a note. Other errors do, with
// *fs.PathError naming the file; the archive then lacks its end and Unpack will
// say so. ctx is looked at between entries and reads; to interrupt a blocked
// write the caller closes w. Pack closes nothing.
func Pack(ctx context.Context, w io.Writer, root string, opts PackOptions) (Summary, error) {
	exclude, err := newExcluder(opts.Exclude)
	if err != nil {
		return Summary{}, err
	}
	p := &packer{
		opts: opts, exclude: exclude, out: newSink(w),
		links: make(map[fileID]string), dirents: make([]byte, 32<<10),
	}
	if opts.UserName != nil {
		p.users = &nameCache{lookup: opts.UserName, known: make(map[uint32]string)}
	}
	if opts.GroupName != nil {
		p.groups = &nameCache{lookup: opts.GroupName, known: make(map[uint32]string)}
	}
	err = p.tree(ctx, root)
	if err == nil {
		err = p.out.zeros(2 * blockSize) // the end marker
	}
	if err == nil {
		err = p.out.flush()
	}
	return p.sum, err
}

// packer is one Pack.
type packer struct {
	opts          PackOptions
	exclude       excluder
	users, groups *nameCache
	out           *sink
	enc           encoder
	hdr           []byte // an encoded header; reused
	dirents       []byte // a getdents buffer; reused
	dirs          dirStack
	system        string            // root as the caller gave it, for errors
	prefix        string            // name of the packed directory and a slash; "./"
	rootDev       uint64            // for OneFileSystem
	links         map[fileID]string // first names of files with several
	sum           Summary
	entries       int64
}

type fileID struct{ dev, ino uint64 }

// nameCache asks for each id's name once.
type nameCache struct {
	lookup func(uint32) string
	known  map[uint32]string
}

func (c *nameCache) name(id uint32) string {
	if c == nil {
		return ""
	}
	name, ok := c.known[id]
	if !ok {
		name = c.lookup(id)
		c.known[id] = name
	}
	return name
}

// tree packs root.
func (p *packer) tree(ctx context.Context, root string) error {
	if root == "" {
		return pathError("open", root, unix.ENOENT)
	}
	dir, base := "", root
	if i := strings.LastIndexByte(root, '/'); i >= 0 {
		dir, base = root[:i+1], root[i+1:]
	}
	contents := base == "" || base == "." || base == ".."
	if contents {
		dir = root
	}
	if dir == "" {
		dir = "."
	}
	p.system = root
	fd, err := openDir(unix.AT_FDCWD, dir, 0)
	if err != nil {
		return pathError("open", dir, err)
	}
	p.dirs.root = fd
	defer p.dirs.close()

	if contents {
		st, err := statFD(fd)
		if err != nil {
			return pathError("stat", dir, err)
		}
		p.rootDev, p.prefix = st.dev, "./"
		if err := p.dirEntry("./", fd, &st); err != nil {
			return err
		}
		return p.children(ctx, "./", fd)
	}
	st, err := statAt(fd, base)
	if err != nil {
		return pathError("lstat", root, err)
	}
	p.rootDev = st.dev
	p.prefix = base + "/"
	return p.entry(ctx, fd, dirent{name: base, mode: st.typ()}, base)
}

// entry packs what d names in the directory dir; name is its path in the
// archive.
func (p *packer) entry(ctx context.Context, dir int, d dirent, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch d.mode {
	case unix.S_IFREG:
		done, err := p.file(ctx, dir, d.name, name)
		if done || err != nil {
			return err
		}
		// It is no longer a regular file.
	case unix.S_IFDIR:
		done, err := p.directory(ctx, dir, d.name, name)
		if done || err != nil {
			return err
		}
	}
	return p.other(dir, d.name, name)
}

// other packs what is not opened: links and special files.
func (p *packer) other(dir int, base, name string) error {
	st, err := statAt(dir, base)
	if err != nil {
		return p.unreadable("lstat", name, err)
	}
	h := p.header(name, &st)
	switch st.typ() {
	case unix.S_IFLNK:
		if h.link, err = readLinkAt(dir, base); err != nil {
			return p.unreadable("readlink", name, err)
		}
		h.kind = kindSymlink
	case unix.S_IFIFO:
		h.kind = kindFIFO
	case unix.S_IFCHR:
		h.kind = kindChar
	case unix.S_IFBLK:
		h.kind = kindBlock
	case unix.S_IFSOCK:
		p.sum.note(name, ReasonSocket, nil)
		return nil
	default: // changed its type a moment ago
		p.sum.note(name, ReasonVanished, nil)
		return nil
	}
	if h.kind != kindSymlink {
		if !p.opts.Specials {
			p.sum.note(name, ReasonSpecial, nil)
			return nil
		}
		h.major, h.minor = deviceNumber(st.rdev)
	}
	if linked, err := p.hardlink(&st, &h); linked || err != nil {
		return err
	}
	if h.kind == kindSymlink {
		p.sum.Symlinks++
	} else {
		p.sum.Specials++
	}
	return p.emit(&h)
}

// header begins the header of an entry.
func (p *packer) header(name string, st *info) header {
	return header{
		name: name, mode: st.mode & 0o7777, mtime: st.mtime,
		uid: int64(st.uid), gid: int64(st.gid),
		uname: p.users.name(st.uid), gname: p.groups.name(st.gid),
	}
}

// hardlink writes h as a link to the file's first name if it has been packed
// under another; else it remembers this one.
func (p *packer) hardlink(st *info, h *header) (bool, error) {
	if !st.linked {
		return false, nil
	}
	id := fileID{st.dev, st.ino}
	first, ok := p.links[id]
	if !ok {
		p.links[id] = h.name
		return false, nil
	}
	h.kind, h.link, h.size = kindHardlink, first, 0
	p.sum.Hardlinks++
	return true, p.emit(h)
}

// emit writes h.
func (p *packer) emit(h *header) error {
	p.begin(h.name)
	var err error
	if p.hdr, err = p.enc.append(p.hdr[:0], h); err != nil {
		return err
	}
	return p.out.write(p.hdr)
}

// begin counts an entry and reports it.
func (p *packer) begin(name string) {
	p.entries++
	p.progress(name)
}

func (p *packer) progress(name string) {
	if p.opts.Progress != nil {
		p.opts.Progress(Progress{Name: name, Entries: p.entries, Bytes: p.sum.Bytes})
	}
}

// directory packs a directory and what is in it. It reports false if there is
// none.
func (p *packer) directory(ctx context.Context, dir int, base, name string) (bool, error) {
	fd, err := openAt(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return true, p.closedDir(dir, base, name, err)
	}
	st, err := statFD(fd)
	if err != nil {
		release(fd)
		return true, pathError("stat", p.path(name), err)
	}
	if err := p.dirEntry(name+"/", fd, &st); err != nil {
		release(fd)
		return true, err
	}
	if p.opts.OneFileSystem && st.dev != p.rootDev {
		release(fd)
		p.sum.note(name, ReasonOtherFS, nil)
		return true, nil
	}
	p.dirs.push(base, fd)
	err = p.children(ctx, name+"/", fd)
	p.dirs.pop()
	return true, err
}

// closedDir packs a directory that cannot be read, empty, if that is wanted.
func (p *packer) closedDir(dir int, base, name string, cause error) error {
	if err := p.unreadable("open", name, cause); err != nil || !errors.Is(cause, unix.EACCES) {
		return err
	}
	st, err := statAt(dir, base)
	if err != nil || st.typ() != unix.S_IFDIR {
		return nil // vanished meanwhile; it has its note
	}
	return p.dirEntry(name+"/", -1, &st)
}

// dirEntry writes the entry of the directory open at fd, or not open at all.
func (p *packer) dirEntry(name string, fd int, st *info) error {
	h := p.header(name, st)
	h.kind = kindDir
	if p.opts.Xattrs && fd >= 0 {
		h.xattrs = p.xattrs(name, fd)
	}
	p.sum.Dirs++
	return p.emit(&h)
}

// children packs what is in the top directory of the stack, open at fd: batch
// by batch, so that memory does not grow with the directory, unless the names
// are to be sorted.
func (p *packer) children(ctx context.Context, name string, fd int) error {
	var offset int64
	for more := true; more; {
		var entries []dirent
		var err error
		for more && (entries == nil || p.opts.Sort) {
			if entries, more, err = readDir(entries, fd, p.dirents); err != nil {
				return p.unreadable("readdir", name, err)
			}
		}
		if p.opts.Sort {
			slices.SortFunc(entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
		} else if offset, err = unix.Seek(fd, 0, io.SeekCurrent); err != nil {
			return pathError("seek", p.path(name), err)
		}
		if err := p.batch(ctx, name, entries); err != nil || !more {
			return err
		}
		// Deep below, this directory's descriptor may have been closed and
		// another opened for it. Its offset is the file system's cookie, which
		// outlives descriptors (NFS servers need that).
		if fd, err = p.dirs.top(); err != nil {
			return p.unreadable("open", name, err)
		}
		if !p.dirs.takeReopened() {
			continue
		}
		if _, err := unix.Seek(fd, offset, io.SeekStart); err != nil {
			return pathError("seek", p.path(name), err)
		}
	}
	return nil
}

// batch packs entries of the top directory of the stack.
func (p *packer) batch(ctx context.Context, name string, entries []dirent) error {
	for _, d := range entries {
		dir, err := p.dirs.top() // not always the same; see children
		if err != nil {
			return p.unreadable("open", name, err)
		}
		if d.mode == 0 {
			st, err := statAt(dir, d.name)
			if err != nil {
				if err := p.unreadable("lstat", name+d.name, err); err != nil {
					return err
				}
				continue
			}
			d.mode = st.typ()
		}
		path := name + d.name
		if p.exclude.excludes(path[len(p.prefix):], d.mode == unix.S_IFDIR) {
			p.sum.Excluded++
			continue
		}
		if err := p.entry(ctx, dir, d, path); err != nil {
			return err
		}
	}
	return nil
}

// unreadable decides about an entry that cannot be read: one that is gone gets
// a note, one that may not be read does if the caller wants that, and anything
// else is an error.
func (p *packer) unreadable(op, name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		p.sum.note(name, ReasonVanished, err)
		return nil
	case p.opts.SkipUnreadable && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)):
		p.sum.note(name, ReasonUnreadable, err)
		return nil
	}
	return pathError(op, p.path(name), err)
}

// path is the system's path of an entry, for errors.
func (p *packer) path(name string) string {
	if p.prefix == "./" {
		return strings.TrimSuffix(p.system, "/") + "/" + name[2:]
	}
	return p.system + strings.TrimPrefix(name, p.prefix[:len(p.prefix)-1])
}
