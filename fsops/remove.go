//go:build linux

package fsops

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// RemoveOptions are the options of [FS.Remove]. The zero value removes one file
// or one empty directory.
type RemoveOptions struct {
	Recursive     bool // a directory with everything below it
	IgnoreMissing bool // that path does not exist is not an error
	OneFileSystem bool // leave alone what is mounted below; it counts as failed, with EXDEV
}

// RemoveResult counts what [FS.Remove] did.
type RemoveResult struct {
	Files  int64 // removed, of any kind but directories
	Dirs   int64 // removed
	Failed int64 // files and directories that could not be removed
}

// Remove removes path: a symbolic link itself, never what it points to. A
// recursive removal goes down through descriptors, so that whoever moves things
// meanwhile cannot lead it elsewhere, continues after what it cannot remove, and
// returns the first error, whose path is that of the file. A path that ends
// with "." or ".." is EINVAL, the root EBUSY.
func (f *FS) Remove(ctx context.Context, path string, opts RemoveOptions) (RemoveResult, error) {
	r := &remover{ended: ctx.Err, opts: opts}
	err := f.withPath(ctx, "remove", path, func(abs string) error {
		dir, base := splitLast(abs)
		switch base {
		case "":
			return unix.EBUSY
		case ".", "..":
			return unix.EINVAL
		}
		if abs[len(abs)-1] == '/' {
			// Only a directory may be called so, and not by way of a link.
			var info FileInfo
			if err := statInto(&info, unix.AT_FDCWD, dir+base, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			} else if !info.IsDir() {
				return unix.ENOTDIR
			}
		}
		fd, err := f.openPath(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		return r.top(fd, base, path)
	})
	if opts.IgnoreMissing && errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return r.result, err
}

// isNotEmpty reports whether a directory could not be removed because something is
// in it; POSIX allows either errno.
func isNotEmpty(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}

type remover struct {
	ended   func() error // says whether the caller has given up
	opts    RemoveOptions
	rootDev uint64
	result  RemoveResult
	first   error // of what could not be removed
}

// removePasses bounds how often a directory is read again because something new
// was in it when it should have been empty.
const removePasses = 16

func (r *remover) top(dirfd int, base, path string) error {
	err := r.unlink(dirfd, base, 0)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	dirErr := r.unlink(dirfd, base, unix.AT_REMOVEDIR)
	switch {
	case errors.Is(dirErr, unix.ENOTDIR):
		return err // EPERM was about the file
	case !isNotEmpty(dirErr):
		return dirErr
	case !r.opts.Recursive:
		return unix.ENOTEMPTY
	}
	fd, err := openAt(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	root, err := newDirNode(nil, fd)
	if err != nil {
		return err
	}
	r.rootDev = root.dev
	err = r.empty(root, path, func() error { return r.unlink(dirfd, base, unix.AT_REMOVEDIR) })
	root.drop()
	if err != nil {
		return err
	}
	return r.first
}

// unlink removes one name and counts it.
func (r *remover) unlink(dirfd int, name string, flags int) error {
	err := retry(func() error { return unix.Unlinkat(dirfd, name, flags) })
	if err == nil && flags != 0 {
		r.result.Dirs++
	} else if err == nil {
		r.result.Files++
	}
	return err
}

// fail notes that path could not be removed. What is gone already is no
// failure.
func (r *remover) fail(path string, err error) {
	if errors.Is(err, unix.ENOENT) {
		return
	}
	r.result.Failed++
	if r.first == nil {
		r.first = pathError("remove", path, err)
	}
}

// empty removes what is in node, whose path is path, and then node itself by
// calling rmdir. The error is that of ended.
func (r *remover) empty(node *dirNode, path string, rmdir func() error) error {
	for range removePasses {
		failed := r.result.Failed
		if err := r.pass(node, path); err != nil {
			return err
		}
		if r.result.Failed != failed {
			// It cannot be empty; the failure is told already.
			return nil
		}
		err := rmdir()
		if !isNotEmpty(err) {
			if err != nil {
				r.fail(path, err)
			}
			return nil
		}
		if _, err := unix.Seek(node.fd, 0, 0); err != nil {
			r.fail(path, err)
			return nil
		}
	}
	r.fail(path, unix.ENOTEMPTY)
	return nil
}

// pass removes what one reading of node finds.
func (r *remover) pass(node *dirNode, path string) error {
	subdirs, err := r.files(node, path)
	if err != nil {
		return err
	}
	for _, name := range subdirs {
		sub := joinPath(path, name)
		child, err := node.open(name)
		if err != nil {
			// Perhaps unreadable, but empty.
			if rmErr := r.unlink(node.fd, name, unix.AT_REMOVEDIR); rmErr != nil {
				if isNotEmpty(rmErr) {
					rmErr = err
				}
				r.fail(sub, rmErr)
			}
			continue
		}
		if r.opts.OneFileSystem && child.dev != r.rootDev {
			r.fail(sub, unix.EXDEV)
			if err := child.close(); err != nil {
				r.fail(path, err)
			}
			continue
		}
		if err := r.descend(node, child, name, sub); err != nil {
			return err
		}
	}
	return nil
}

// descend empties child and removes it from node.
func (r *remover) descend(node, child *dirNode, name, path string) error {
	err := r.empty(child, path, func() error {
		if err := child.reopenParent(); err != nil {
			return err
		}
		return r.unlink(node.fd, name, unix.AT_REMOVEDIR)
	})
	if closeErr := child.close(); closeErr != nil {
		r.fail(path, closeErr)
	}
	return err
}

// files removes everything in node but directories, which it returns.
func (r *remover) files(node *dirNode, path string) (subdirs []string, err error) {
	reader := newDirentReader(node.fd)
	defer reader.release()
	for n := 0; ; n++ {
		if n%256 == 0 {
			if err := r.ended(); err != nil {
				return nil, err
			}
		}
		var entry DirEntry
		ok, err := reader.next(&entry)
		if err != nil {
			r.fail(path, err)
			return subdirs, nil
		}
		if !ok {
			return subdirs, nil
		}
		if entry.Type == unix.S_IFDIR {
			subdirs = append(subdirs, entry.Name)
			continue
		}
		err = r.unlink(node.fd, entry.Name, 0)
		if errors.Is(err, unix.EISDIR) {
			subdirs = append(subdirs, entry.Name)
		} else if err != nil {
			r.fail(joinPath(path, entry.Name), err)
		}
	}
}
