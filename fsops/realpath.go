//go:build linux

package fsops

import (
	"context"
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// RealpathMode says how much of a path must exist for [FS.Realpath].
type RealpathMode int

// How much must exist.
const (
	RealpathExisting RealpathMode = iota // everything
	RealpathParent                       // everything but the last element
	RealpathMissing                      // nothing; what is missing is taken literally
)

// maxLinks is the kernel's own limit on symbolic links in one path (MAXSYMLINKS).
const maxLinks = 40

// Realpath returns the absolute path of what path leads to, without symbolic
// links, "." and "..". It does not need /proc.
func (f *FS) Realpath(ctx context.Context, path string, mode RealpathMode) (string, error) {
	var real string
	err := f.withPath(ctx, "realpath", path, func(abs string) (err error) {
		real, err = realpath(abs, mode)
		return err
	})
	return real, err
}

func realpath(abs string, mode RealpathMode) (string, error) {
	done, rest, links := "/", abs, 0
	var info FileInfo
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return done, nil
		}
		name, after, more := strings.Cut(rest, "/")
		if name == "." || name == ".." {
			done, rest = path.Join(done, name), after
			continue
		}
		next := joinPath(done, name)
		last := strings.Trim(after, "/") == ""
		err := statInto(&info, unix.AT_FDCWD, next, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT) && (mode == RealpathMissing || mode == RealpathParent && last):
			return path.Join(next, after), nil
		case err != nil:
			return "", err
		case info.IsSymlink():
			if links++; links > maxLinks {
				return "", unix.ELOOP
			}
			target, err := readlinkAt(unix.AT_FDCWD, next)
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(target, "/") {
				done = "/"
			}
			rest = target
			if more {
				rest = joinPath(target, after)
			}
		case more && !info.IsDir():
			return "", unix.ENOTDIR
		default:
			done, rest = next, after
		}
	}
}
