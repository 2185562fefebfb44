//go:build linux

package agent

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// infos makes the FileInfos of one call. It remembers the owners' names, so
// that a listing does not read /etc/passwd for every entry. The zero value is
// ready; it is not safe for concurrent use.
type infos struct {
	names fsops.Names
}

// wire translates info; path is what FileInfo.path is to be.
func (c *infos) wire(info *fsops.FileInfo, path string) *guestdv1.FileInfo {
	out := new(guestdv1.FileInfo)
	c.fill(out, info, path)
	return out
}

// fill is wire into a FileInfo that was used before.
func (c *infos) fill(out *guestdv1.FileInfo, info *fsops.FileInfo, path string) {
	out.Name, out.RawName = wirePath(info.Name)
	out.Path, out.RawPath = wirePath(path)
	out.Type = fileType(info.Mode)
	out.Mode = info.Perm()
	out.Size = uint64(info.Size)
	out.AllocatedBytes = uint64(info.Blocks) * 512
	out.Uid, out.Gid = info.UID, info.GID
	out.Owner = strings.ToValidUTF8(c.names.User(info.UID), "\uFFFD")
	out.Group = strings.ToValidUTF8(c.names.Group(info.GID), "\uFFFD")
	out.ModifyTime = timeInto(out.ModifyTime, info.Mtime)
	out.AccessTime = timeInto(out.AccessTime, info.Atime)
	out.ChangeTime = timeInto(out.ChangeTime, info.Ctime)
	out.BirthTime = timeInto(out.BirthTime, info.Btime)
	out.Inode = info.Ino
	out.Device = info.Dev
	out.Links = info.Nlink
	out.SpecialDevice = info.Rdev
	out.SymlinkTarget, out.RawSymlinkTarget = wirePath(info.LinkTarget)
}

// timeInto writes t into out, or into a new Timestamp if that is nil. The zero
// time is nil.
func timeInto(out *timestamppb.Timestamp, t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	if out == nil {
		out = new(timestamppb.Timestamp)
	}
	out.Seconds, out.Nanos = t.Unix(), int32(t.Nanosecond())
	return out
}

// fileType is the type in st_mode.
func fileType(mode uint32) guestdv1.FileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return guestdv1.FileType_FILE_TYPE_REGULAR
	case unix.S_IFDIR:
		return guestdv1.FileType_FILE_TYPE_DIRECTORY
	case unix.S_IFLNK:
		return guestdv1.FileType_FILE_TYPE_SYMLINK
	case unix.S_IFIFO:
		return guestdv1.FileType_FILE_TYPE_FIFO
	case unix.S_IFSOCK:
		return guestdv1.FileType_FILE_TYPE_SOCKET
	case unix.S_IFCHR:
		return guestdv1.FileType_FILE_TYPE_CHAR_DEVICE
	case unix.S_IFBLK:
		return guestdv1.FileType_FILE_TYPE_BLOCK_DEVICE
	}
	return guestdv1.FileType_FILE_TYPE_UNSPECIFIED
}

// wireTime reads a time of a request; nil stays nil.
func wireTime(field string, t *timestamppb.Timestamp) (*time.Time, error) {
	if t == nil {
		return nil, nil
	}
	if err := t.CheckValid(); err != nil {
		return nil, invalidRequest("%s: %v", field, err)
	}
	out := t.AsTime()
	return &out, nil
}

// wireMode checks permission bits of a request; nil stays nil.
func wireMode(field string, mode *uint32) (*uint32, error) {
	if mode != nil && *mode > 0o7777 {
		return nil, invalidRequest("%s: 0%o has more than permission bits", field, *mode)
	}
	return mode, nil
}

// readableName makes a name, or a command that has some, valid UTF-8: other
// bytes are written as \xNN, which still tells names apart.
func readableName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		if r == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD") {
			fmt.Fprintf(&b, `\x%02X`, name[i])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
