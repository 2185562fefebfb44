//go:build linux

package sftp

import (
	"encoding/binary"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

func (s *session) statvfs(id uint32, f *fields) {
	if path, ok := s.onePath(id, f); ok {
		info, err := s.Files.Statfs(s.ctx, path)
		s.fileSystem(id, info, err)
	}
}

func (s *session) fstatvfs(id uint32, f *fields) {
	file := s.files[f.handle()]
	if f.bad || file == nil {
		s.status(id, handleError(f))
		return
	}
	info, err := file.Statfs(s.ctx)
	s.fileSystem(id, info, err)
}

// fileSystem answers with a struct statvfs.
func (s *session) fileSystem(id uint32, info *fsops.FSInfo, err error) {
	if err != nil {
		s.status(id, err)
		return
	}
	unit := uint64(max(info.BlockSize, 1))
	out, start := begin(s.reply, typeExtendedReply, id)
	for _, v := range [...]uint64{
		unit, unit, info.Size / unit, info.Free / unit, info.Available / unit,
		info.Files, info.FilesFree, info.FilesFree,
		info.ID, info.Flags & (unix.ST_RDONLY | unix.ST_NOSUID), uint64(info.MaxNameSize),
	} {
		out = binary.BigEndian.AppendUint64(out, v)
	}
	s.reply = end(out, start)
}

func (s *session) limits(id uint32, _ *fields) {
	out, start := begin(s.reply, typeExtendedReply, id)
	for _, v := range [...]uint64{maxPacket, maxTransfer, maxTransfer, uint64(s.maxHandles())} {
		out = binary.BigEndian.AppendUint64(out, v)
	}
	s.reply = end(out, start)
}

// expandPath is realpath for a path that may begin with a tilde. The user's own
// is the directory in which the session started, as for OpenSSH.
func (s *session) expandPath(id uint32, f *fields) {
	path := f.text()
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	switch {
	case path == "~":
		path = s.dir
	case strings.HasPrefix(path, "~/"):
		path = "." + path[len("~"):] // "~//etc" is below it too
	case strings.HasPrefix(path, "~"):
		home, err := s.Files.Resolve(path)
		if err != nil {
			s.status(id, errNoHome)
			return
		}
		path = home
	}
	s.realName(id, path)
}

func (s *session) homeDirectory(id uint32, f *fields) {
	name := f.text()
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	if name == "" || strings.ContainsAny(name, "/:") {
		s.status(id, errNoUser)
		return
	}
	home, err := s.Files.Resolve("~" + name)
	if err != nil {
		s.status(id, errNoUser)
		return
	}
	s.name(id, home)
}

// usersGroups answers with the names of ids, "" for those that have none.
func (s *session) usersGroups(id uint32, f *fields) {
	users, groups := f.bytes(), f.bytes()
	// Of so many names the answer is not a packet any more; and OpenSSH's client
	// asks for those of one directory at a time.
	const maxIDs = 4096
	if f.bad || len(users)%4 != 0 || len(groups)%4 != 0 || len(users)+len(groups) > 4*maxIDs {
		s.status(id, errBadMessage)
		return
	}
	var names fsops.Names
	out, start := begin(s.reply, typeExtendedReply, id)
	out = appendNames(out, users, names.User)
	out = appendNames(out, groups, names.Group)
	s.reply = end(out, start)
}

func appendNames(out, ids []byte, name func(uint32) string) []byte {
	at := len(out)
	out = append(out, 0, 0, 0, 0)
	for ; len(ids) > 0; ids = ids[4:] {
		out = appendString(out, name(binary.BigEndian.Uint32(ids)))
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-lengthSize))
	return out
}

// copyData copies between two open files; a size of 0 is all there is.
func (s *session) copyData(id uint32, f *fields) {
	from, at, size := s.files[f.handle()], f.uint64(), f.uint64()
	to, offset := s.files[f.handle()], f.uint64()
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case from == nil || to == nil:
		s.status(id, errNoHandle)
	case from.dev == to.dev && from.ino == to.ino:
		// It may never end: the file can grow by what is copied.
		s.status(id, errSameFile)
	case at > math.MaxInt64 || offset > math.MaxInt64:
		s.status(id, unix.EINVAL)
	case !from.seekable || !from.regular || to.queue != nil:
		s.status(id, unix.ESPIPE) // it would keep the session waiting
	default:
		count := int64(-1)
		if size > 0 {
			count = int64(min(size, math.MaxInt64))
		}
		s.flush() // it may take its time
		var n int64
		var err error
		s.inTurn(from, func() {
			n, err = from.CopyTo(s.ctx, to.Handle, int64(at), int64(offset), count)
			from.read += n
		})
		to.written += n
		s.done(id, Op{Request: "copy-data", Path: from.path, Target: to.path, Err: err})
	}
}
