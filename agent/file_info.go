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
	out := &guestdv1.FileInfo{
		Type:           fileType(info.Mode),
		Mode:           info.Perm(),
		Size:           uint64(info.Size),
		AllocatedBytes: uint64(info.Blocks) * 512,
		Uid:            info.UID,
		Gid:            info.GID,
		Owner:          strings.ToValidUTF8(c.names.User(info.UID), "\uFFFD"),
		Group:          strings.ToValidUTF8(c.names.Group(info.GID), "\uFFFD"),
		ModifyTime:     timestamppb.New(info.Mtime),
		AccessTime:     timestamppb.New(info.Atime),
		ChangeTime:     timestamppb.New(info.Ctime),
		Inode:          info.Ino,
		Device:         info.Dev,
		Links:          info.Nlink,
		SpecialDevice:  info.Rdev,
	}
	if !info.Btime.IsZero() {
		out.BirthTime = timestamppb.New(info.Btime)
	}
	out.Name, out.RawName = wirePath(info.Name)
	out.Path, out.RawPath = wirePath(path)
	out.SymlinkTarget, out.RawSymlinkTarget = wirePath(info.LinkTarget)
	return out
}

// entry translates an entry of a directory. Where the file could not be
// described, or was not to be, it has but its name and type.
func (c *infos) entry(entry *fsops.DirEntry, path string) *guestdv1.FileInfo {
	if entry.Info != nil {
		return c.wire(entry.Info, path)
	}
	out := &guestdv1.FileInfo{Type: fileType(entry.Type)}
	out.Name, out.RawName = wirePath(entry.Name)
	out.Path, out.RawPath = wirePath(path)
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

// readableName makes a name valid UTF-8: other bytes are written as \xNN.
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
