//go:build linux

package sftp

import (
	"encoding/binary"
	"errors"
	"io"
)

// request is one kind of request that a client may send.
type request struct {
	name    string // for people
	kind    byte
	ext     string // with typeExtended: its name on the wire
	version string // with typeExtended: what VERSION says of it
	writes  bool   // it changes something; not so open, which looks at its flags
	handle  func(s *session, id uint32, f *fields)
}

// requests are all kinds but INIT, in the order in which OpenSSH names them.
var requests = [...]request{
	{name: "open", kind: typeOpen, handle: (*session).open},
	{name: "close", kind: typeClose, handle: (*session).close},
	{name: "read", kind: typeRead, handle: (*session).read},
	{name: "write", kind: typeWrite, writes: true, handle: (*session).write},
	{name: "lstat", kind: typeLstat, handle: (*session).lstat},
	{name: "fstat", kind: typeFstat, handle: (*session).fstat},
	{name: "setstat", kind: typeSetstat, writes: true, handle: (*session).setstat},
	{name: "fsetstat", kind: typeFsetstat, writes: true, handle: (*session).fsetstat},
	{name: "opendir", kind: typeOpendir, handle: (*session).opendir},
	{name: "readdir", kind: typeReaddir, handle: (*session).readdir},
	{name: "remove", kind: typeRemove, writes: true, handle: (*session).remove},
	{name: "mkdir", kind: typeMkdir, writes: true, handle: (*session).mkdir},
	{name: "rmdir", kind: typeRmdir, writes: true, handle: (*session).rmdir},
	{name: "realpath", kind: typeRealpath, handle: (*session).realpath},
	{name: "stat", kind: typeStat, handle: (*session).stat},
	{name: "rename", kind: typeRename, writes: true, handle: (*session).rename},
	{name: "readlink", kind: typeReadlink, handle: (*session).readlink},
	{name: "symlink", kind: typeSymlink, writes: true, handle: (*session).symlink},
	extension("posix-rename", "posix-rename@openssh.com", "1", true, (*session).posixRename),
	extension("statvfs", "statvfs@openssh.com", "2", false, (*session).statvfs),
	extension("fstatvfs", "fstatvfs@openssh.com", "2", false, (*session).fstatvfs),
	extension("hardlink", "hardlink@openssh.com", "1", true, (*session).hardlink),
	extension("fsync", "fsync@openssh.com", "1", true, (*session).fsync),
	extension("lsetstat", "lsetstat@openssh.com", "1", true, (*session).lsetstat),
	extension("limits", "limits@openssh.com", "1", false, (*session).limits),
	extension("expand-path", "expand-path@openssh.com", "1", false, (*session).expandPath),
	extension("copy-data", "copy-data", "1", true, (*session).copyData),
	extension("home-directory", "home-directory", "1", false, (*session).homeDirectory),
	extension("users-groups-by-id", "users-groups-by-id@openssh.com", "1", false, (*session).usersGroups),
}

func extension(name, ext, version string, writes bool, handle func(*session, uint32, *fields)) request {
	return request{name: name, kind: typeExtended, ext: ext, version: version, writes: writes, handle: handle}
}

// Errors that end a session.
var (
	errTooLong = errors.New("packet longer than 256 KiB, or empty: this is not SFTP")
	errNoInit  = errors.New("request before INIT")
	errShort   = errors.New("packet without an id")
)

// run handles one packet after the other until the client has sent its last.
func (s *session) run() error {
	greeted := false
	for {
		if !s.in.buffered() {
			s.flush()
		}
		packet, err := s.in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.out.failed(); err != nil {
			return err
		}
		f := fields{rest: packet[1:]}
		switch kind := packet[0]; {
		case kind == typeInit:
			greeted = true
			s.version()
		case !greeted:
			return errNoInit
		default:
			id := f.uint32()
			if f.bad {
				return errShort
			}
			s.dispatch(kind, id, &f)
		}
		if len(s.reply) >= flushSize || len(s.reply) >= leanSize && !s.inBulk() {
			s.flush()
		}
	}
}

func (s *session) dispatch(kind byte, id uint32, f *fields) {
	var ext []byte
	if kind == typeExtended {
		ext = f.bytes()
	}
	for i := range requests {
		r := &requests[i]
		if r.kind != kind || kind == typeExtended && r.ext != string(ext) {
			continue
		}
		if !s.permitted[i] {
			s.status(id, errNotAllowed)
			return
		}
		r.handle(s, id, f)
		return
	}
	s.status(id, errUnsupported)
}

// version answers INIT.
func (s *session) version() {
	start := len(s.reply)
	s.reply = append(s.reply, 0, 0, 0, 0, typeVersion)
	s.reply = binary.BigEndian.AppendUint32(s.reply, protocolVersion)
	for i, r := range requests {
		if r.kind == typeExtended && s.permitted[i] {
			s.reply = appendString(s.reply, r.ext)
			s.reply = appendString(s.reply, r.version)
		}
	}
	s.reply = end(s.reply, start)
}

// status answers with the outcome of a request.
func (s *session) status(id uint32, err error) { s.reply = appendStatus(s.reply, id, err) }

func appendStatus(out []byte, id uint32, err error) []byte {
	c, text := status(err)
	out, start := begin(out, typeStatus, id)
	out = binary.BigEndian.AppendUint32(out, uint32(c))
	out = appendString(out, text)
	out = appendString(out, "") // language
	return end(out, start)
}

// name answers with one name, without attributes.
func (s *session) name(id uint32, name string) {
	out, start := begin(s.reply, typeName, id)
	out = binary.BigEndian.AppendUint32(out, 1)
	out = appendString(out, name)
	out = appendString(out, name)
	out = binary.BigEndian.AppendUint32(out, 0)
	s.reply = end(out, start)
}

// flush gives the packets that were made to the client, or to the goroutine
// that does.
func (s *session) flush() {
	switch {
	case len(s.reply) == 0:
	case s.bulk:
		s.reply = s.out.send(s.reply)
	default:
		s.out.write(s.reply)
		if s.reply = s.reply[:0]; cap(s.reply) > 2*leanSize {
			s.reply = nil
		}
	}
}
