//go:build linux

package sftp

import (
	"encoding/binary"
	"time"

	"github.com/guestd/guestd/fsops"
)

// dirEntries is how many names one answer to READDIR has at most, OpenSSH's
// number: with the longest names it is 60 KiB.
const dirEntries = 100

// dir is an open directory.
type dir struct {
	*fsops.Dir
	path  string
	batch fsops.DirBatch
	names fsops.Names
	begun bool
}

func (s *session) opendir(id uint32, f *fields) {
	path, ok := s.onePath(id, f)
	if !ok {
		return
	}
	handle, err := s.openDir(path)
	s.audit(Op{Request: "opendir", Path: path, Err: err})
	if err != nil {
		s.status(id, err)
		return
	}
	s.handle(id, handle)
}

func (s *session) openDir(path string) (uint32, error) {
	return s.newHandle(func(handle uint32) error {
		d, err := s.Files.OpenDir(s.ctx, path)
		if err == nil {
			s.dirs[handle] = &dir{Dir: d, path: path}
		}
		return err
	})
}

func (s *session) closeDir(handle uint32, forced bool) error {
	d := s.dirs[handle]
	delete(s.dirs, handle)
	err := d.Close()
	s.freeHandle()
	s.audit(Op{Request: "close", Path: d.path, Forced: forced, Err: err})
	return err
}

func (s *session) readdir(id uint32, f *fields) {
	d := s.dirs[f.handle()]
	if f.bad || d == nil {
		s.status(id, handleError(f))
		return
	}
	out, start := begin(s.reply, typeName, id)
	count := len(out)
	out = append(out, 0, 0, 0, 0)
	now, n := time.Now(), uint32(0)
	if !d.begun {
		d.begun = true
		out, n = s.appendDots(out, d, now)
	}
	var err error
	// An entry that cannot be described is left out, as by OpenSSH. Where that is
	// a whole batch, more may follow.
	for more := true; more; more = n == 0 && err == nil {
		var entries []fsops.DirEntry
		entries, err = d.NextBatch(s.ctx, &d.batch, dirEntries-int(n), true)
		for _, entry := range entries {
			if entry.Info != nil {
				out = d.appendEntry(out, entry.Name, entry.Info, now)
				n++
			}
		}
	}
	if n == 0 {
		s.status(id, err)
		return
	}
	binary.BigEndian.PutUint32(out[count:], n)
	s.reply = end(out, start)
}

// appendDots appends the entries that fsops leaves out.
func (s *session) appendDots(out []byte, d *dir, now time.Time) ([]byte, uint32) {
	n := uint32(0)
	if info, err := d.Stat(s.ctx); err == nil {
		out, n = d.appendEntry(out, ".", info, now), n+1
	}
	if info, err := s.Files.Lstat(s.ctx, d.path+"/.."); err == nil {
		out, n = d.appendEntry(out, "..", info, now), n+1
	}
	return out, n
}

func (d *dir) appendEntry(out []byte, name string, info *fsops.FileInfo, now time.Time) []byte {
	out = appendString(out, name)
	at := len(out)
	out = append(out, 0, 0, 0, 0)
	out = appendLongName(out, name, info, &d.names, now)
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-lengthSize))
	return appendAttrs(out, info)
}
