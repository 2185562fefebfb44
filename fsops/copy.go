//go:build linux

package fsops

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyOptions are the options of [FS.Copy]. The zero value copies one file.
type CopyOptions struct {
	Recursive bool // a directory with everything below it
	NoReplace bool // a file that is there already is EEXIST
	NoFollow  bool // where the source is a symbolic link, copy that
	Owner     bool // keep owners, as far as the user may set them
	Sync      bool // wait until each file is on the disk
}

// CopyResult counts what [FS.Copy] made.
type CopyResult struct {
	Files  int64 // regular files, FIFOs and devices
	Dirs   int64 // directories that were not there
	Links  int64 // symbolic links and second names of files copied already
	Bytes  int64 // size of the files, holes included
	Failed int64 // what could not be copied
}

// Copy makes to a copy of from. It keeps modes, times to the nanosecond,
// extended attributes (those that the user may set), holes, symbolic links and,
// within one tree, hard links; setuid and setgid only with the owner. Blocks
// are shared where the file system can.
//
// A file is replaced atomically, and to may be a symbolic link to it, but never
// a directory; nor, for a regular file, a FIFO, device or socket, which is
// [ErrSpecial]. A directory that is there already is filled up and keeps its
// attributes; symbolic links below it are replaced, not followed. A recursive
// copy continues after what cannot be copied and returns the first error, whose
// path is that of the file. From and to the same is EINVAL; a copy into the tree
// itself leaves the copy out of the copy.
func (f *FS) Copy(ctx context.Context, from, to string, opts CopyOptions) (CopyResult, error) {
	c := &copier{ended: ctx.Err, fs: f, opts: opts, linked: map[inode]linkedFile{}}
	err := ctx.Err()
	if err != nil {
		return c.result, err
	}
	absFrom, err := f.resolve(from)
	if err != nil {
		return c.result, pathError("copy", from, err)
	}
	absTo, err := f.resolve(to)
	if err != nil {
		return c.result, pathError("copy", to, err)
	}
	err = f.do(func() error { return c.top(absFrom, absTo, from) })
	if err == nil {
		err = c.first
	}
	return c.result, linkError("copy", from, to, err)
}

// sameError is an EINVAL that says why.
type sameError struct{}

func (sameError) Error() string { return "source and target are the same file" }

func (sameError) Unwrap() error { return unix.EINVAL }

type inode struct{ dev, ino uint64 }

func inodeOf(i *FileInfo) inode { return inode{i.Dev, i.Ino} }

// linkedFile is where a file with several names was copied to.
type linkedFile struct {
	rel  string // below the copy's root
	copy inode
}

type copier struct {
	ended  func() error // says whether the caller has given up
	fs     *FS
	opts   CopyOptions
	result CopyResult
	first  error

	root   *dirNode // of the copy, where it is a directory
	linked map[inode]linkedFile
}

func (c *copier) top(from, to, name string) error {
	flags := 0
	if c.opts.NoFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	info, err := statAt(unix.AT_FDCWD, from, flags)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if !c.opts.Recursive {
			return unix.EISDIR
		}
		return c.topDir(from, strings.TrimRight(to, "/"), name, info)
	}
	dir, base := splitLast(from)
	if !info.IsSymlink() {
		// Followed, the file itself is opened by its whole path.
		dir, base = "/", from
	}
	srcDir, err := c.fs.openPath(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer closeFD(srcDir)
	t, err := c.fs.openTarget(to, info.IsSymlink())
	if err != nil {
		return err
	}
	defer t.close()
	if t.existing != nil && inodeOf(t.existing) == inodeOf(info) {
		return sameError{}
	}
	if t.existing != nil && t.existing.IsSpecial() && info.IsRegular() && !c.opts.NoReplace {
		return ErrSpecial
	}
	return c.file(srcDir, base, t, info, 0)
}

func (c *copier) topDir(from, to, name string, info *FileInfo) error {
	src, err := c.fs.openRootNode(from)
	if err != nil {
		return err
	}
	defer src.drop()
	if to == "" {
		to = "/"
	}
	made := true
	err = mkdirAt(unix.AT_FDCWD, to, 0o700)
	if errors.Is(err, unix.EEXIST) {
		made, err = false, nil
	}
	if err != nil {
		return err
	}
	dst, err := c.fs.openRootNode(to)
	if err != nil {
		return err
	}
	defer dst.drop()
	if dst.dev == src.dev && dst.ino == src.ino {
		return sameError{}
	}
	c.root = dst
	return c.dir(src, dst, "", name, info, made)
}

// fail notes that path could not be copied, and returns what ends the copy.
func (c *copier) fail(path string, err error) error {
	if ctxErr := c.ended(); ctxErr != nil {
		return ctxErr
	}
	c.result.Failed++
	if c.first == nil {
		c.first = pathError("copy", path, err)
	}
	return nil
}

// dir copies what is in src to dst. rel is their path below the roots and path
// what the caller calls src. Its error ends the whole copy.
func (c *copier) dir(src, dst *dirNode, rel, path string, info *FileInfo, made bool) error {
	if made {
		c.result.Dirs++
	}
	subdirs, err := c.files(src, dst, rel, path)
	if err != nil {
		return err
	}
	for _, name := range subdirs {
		if err := c.subdir(src, dst, name, joinRel(rel, name), joinPath(path, name)); err != nil {
			return err
		}
	}
	if !made || dst.fd < 0 || src.fd < 0 {
		return nil
	}
	// Last, since filling it changed its times, and its mode may forbid that.
	if err := c.attrs(dst.fd, src.fd, info); err != nil {
		return c.fail(path, err)
	}
	return nil
}

// files copies everything in src but directories, which it returns.
func (c *copier) files(src, dst *dirNode, rel, path string) (subdirs []string, err error) {
	reader := newDirentReader(src.fd)
	defer reader.release()
	for {
		if err := c.ended(); err != nil {
			return nil, err
		}
		var entry DirEntry
		ok, err := reader.next(&entry)
		if err != nil {
			return subdirs, c.fail(path, err)
		}
		if !ok {
			return subdirs, nil
		}
		if isPartialName(entry.Name) {
			continue // of a copy into the same directory, or of an upload
		}
		info, err := statAt(src.fd, entry.Name, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil && info.IsDir() {
			subdirs = append(subdirs, entry.Name)
			continue
		}
		if err == nil {
			err = c.entry(src, dst, joinRel(rel, entry.Name), entry.Name, info)
		}
		if err != nil {
			if err := c.fail(joinPath(path, entry.Name), err); err != nil {
				return nil, err
			}
		}
	}
}

// entry copies one file of a tree, or links it to its copy.
func (c *copier) entry(src, dst *dirNode, rel, name string, info *FileInfo) error {
	t := &target{dirfd: dst.fd, name: name}
	if err := t.look(); err != nil {
		return err
	}
	if t.existing != nil && inodeOf(t.existing) == inodeOf(info) {
		return sameError{}
	}
	if info.Nlink > 1 && c.link(t, info) {
		c.result.Links++
		return nil
	}
	if err := c.file(src.fd, name, t, info, unix.O_NOFOLLOW); err != nil {
		return err
	}
	if info.Nlink > 1 && t.look() == nil && t.existing != nil {
		c.linked[inodeOf(info)] = linkedFile{rel, inodeOf(t.existing)}
	}
	return nil
}

// link gives the copy of a file that has been copied already its second name,
// and reports whether it could.
func (c *copier) link(t *target, info *FileInfo) bool {
	have, ok := c.linked[inodeOf(info)]
	if !ok || t.existing != nil || c.root == nil {
		return false
	}
	dir, base := splitLast(have.rel)
	if dir == "" {
		dir = "."
	}
	// Nobody can have put a symbolic link on the way without an error here.
	fd, err := openHow(c.root.fd, dir, unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	if retry(func() error { return unix.Linkat(fd, base, t.dirfd, t.name, 0) }) != nil {
		return false
	}
	if t.look() == nil && t.existing != nil && inodeOf(t.existing) == have.copy {
		return true
	}
	_ = unix.Unlinkat(t.dirfd, t.name, 0)
	t.existing = nil
	return false
}

func (c *copier) subdir(src, dst *dirNode, name, rel, path string) error {
	child, err := src.open(name)
	if err != nil {
		return c.fail(path, err)
	}
	err = c.subdirInto(child, dst, name, rel, path)
	if closeErr := child.close(); closeErr != nil && err == nil {
		err = c.fail(path, closeErr)
	}
	return err
}

func (c *copier) subdirInto(child, dst *dirNode, name, rel, path string) error {
	if child.dev == c.root.dev && child.ino == c.root.ino {
		return nil // the copy is below what is copied
	}
	info, err := statFD(child.fd)
	if err != nil {
		return c.fail(path, err)
	}
	made := true
	err = mkdirAt(dst.fd, name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		made, err = false, nil
	}
	if err != nil {
		return c.fail(path, err)
	}
	into, err := dst.open(name)
	if err != nil {
		return c.fail(path, err)
	}
	err = c.dir(child, into, rel, path, info, made)
	if closeErr := into.close(); closeErr != nil && err == nil {
		err = c.fail(path, closeErr)
	}
	return err
}
