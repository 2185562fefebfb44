//go:build linux

package sftp

import (
	"cmp"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// onePath reads the path that is all of a request. False is a malformed one,
// which is answered.
func (s *session) onePath(id uint32, f *fields) (path string, ok bool) {
	path = s.path(f.text())
	if f.bad {
		s.status(id, errBadMessage)
	}
	return path, !f.bad
}

// pathOp reads one path and answers with the outcome of do.
func (s *session) pathOp(id uint32, f *fields, request string, do func(path string) error) {
	if path, ok := s.onePath(id, f); ok {
		s.done(id, Op{Request: request, Path: path, Err: do(path)})
	}
}

// attributes answers with info, or err.
func (s *session) attributes(id uint32, info *fsops.FileInfo, err error) {
	if err != nil {
		s.status(id, err)
		return
	}
	out, start := begin(s.reply, typeAttrs, id)
	s.reply = end(appendAttrs(out, info), start)
}

func (s *session) stat(id uint32, f *fields) {
	if path, ok := s.onePath(id, f); ok {
		info, err := s.Files.Stat(s.ctx, path)
		s.attributes(id, info, err)
	}
}

func (s *session) lstat(id uint32, f *fields) {
	if path, ok := s.onePath(id, f); ok {
		info, err := s.Files.Lstat(s.ctx, path)
		s.attributes(id, info, err)
	}
}

func (s *session) setstat(id uint32, f *fields) { s.setattr(id, f, "setstat", false) }

func (s *session) lsetstat(id uint32, f *fields) { s.setattr(id, f, "lsetstat", true) }

func (s *session) setattr(id uint32, f *fields, request string, noFollow bool) {
	path, a := s.path(f.text()), f.attrs()
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case noFollow && a.flags&attrSize != 0:
		s.status(id, unix.EINVAL) // a link has no size of its own to set
	default:
		err := a.changes(func(change fsops.Attrs) error { return s.Files.SetAttr(s.ctx, path, change, noFollow) })
		s.done(id, Op{Request: request, Path: path, Err: err})
	}
}

func (s *session) remove(id uint32, f *fields) {
	s.pathOp(id, f, "remove", func(path string) error { return s.Files.Unlink(s.ctx, path) })
}

func (s *session) rmdir(id uint32, f *fields) {
	s.pathOp(id, f, "rmdir", func(path string) error { return s.Files.Rmdir(s.ctx, path) })
}

func (s *session) mkdir(id uint32, f *fields) {
	path, a := s.path(f.text()), f.attrs()
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	// mkdir(2) takes no setuid and setgid either.
	op := Op{Request: "mkdir", Path: path, Mode: a.mode(0o777, s.umask) &^ (unix.S_ISUID | unix.S_ISGID)}
	op.Err = s.Files.Mkdir(s.ctx, path, op.Mode)
	s.done(id, op)
}

func (s *session) realpath(id uint32, f *fields) {
	path := f.text()
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	s.realName(id, path)
}

// realName answers with where a client's path leads to; "" is where the session
// started. As for OpenSSH, a slash at the end means nothing, not even that of a
// file.
func (s *session) realName(id uint32, path string) {
	path = s.path(cmp.Or(path, "."))
	if len(path) >= unix.PathMax {
		s.status(id, unix.ENAMETOOLONG)
		return
	}
	real, err := s.Files.Realpath(s.ctx, "/"+strings.Trim(path, "/"), fsops.RealpathParent)
	if err != nil {
		s.status(id, err)
		return
	}
	s.name(id, real)
}

func (s *session) readlink(id uint32, f *fields) {
	path, ok := s.onePath(id, f)
	if !ok {
		return
	}
	target, err := s.Files.Readlink(s.ctx, path)
	if err != nil {
		s.status(id, err)
		return
	}
	s.name(id, target)
}

// symlink takes the target first and then the link, as OpenSSH does, and all
// that speak to it: the draft has them the other way round.
func (s *session) symlink(id uint32, f *fields) {
	target, path := f.text(), s.path(f.text())
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	s.done(id, Op{Request: "symlink", Path: target, Target: path, Err: s.Files.Symlink(s.ctx, target, path)})
}

// twoPaths reads two paths and answers with the outcome of do.
func (s *session) twoPaths(id uint32, f *fields, request string, do func(from, to string) error) {
	from, to := s.path(f.text()), s.path(f.text())
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	s.done(id, Op{Request: request, Path: from, Target: to, Err: do(from, to)})
}

func (s *session) hardlink(id uint32, f *fields) {
	s.twoPaths(id, f, "hardlink", func(from, to string) error { return s.Files.Link(s.ctx, from, to) })
}

func (s *session) posixRename(id uint32, f *fields) {
	s.twoPaths(id, f, "posix-rename", func(from, to string) error {
		return s.Files.Rename(s.ctx, from, to, fsops.RenameReplace)
	})
}

// rename replaces nothing, as the draft wants it (§6.5).
func (s *session) rename(id uint32, f *fields) {
	s.twoPaths(id, f, "rename", func(from, to string) error {
		err := s.Files.Rename(s.ctx, from, to, fsops.RenameNoReplace)
		if errors.Is(err, unix.EINVAL) {
			return s.renameByLink(from, to)
		}
		return err
	})
}

// renameByLink is for file systems that know no RENAME_NOREPLACE: link(2)
// replaces nothing either. For what cannot be linked, a look before has to do.
func (s *session) renameByLink(from, to string) error {
	info, err := s.Files.Lstat(s.ctx, from)
	if err != nil {
		return err
	}
	if info.IsRegular() {
		if err := s.Files.Link(s.ctx, from, to); err != nil {
			return err
		}
		return s.Files.Unlink(s.ctx, from)
	}
	if _, err := s.Files.Lstat(s.ctx, to); err == nil {
		return unix.EEXIST
	}
	return s.Files.Rename(s.ctx, from, to, fsops.RenameReplace)
}
