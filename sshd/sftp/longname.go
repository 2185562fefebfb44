//go:build linux

package sftp

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// recent is for how long `ls -l` shows a file's hour instead of its year.
const recent = 365 * 24 * time.Hour / 2

// appendLongName appends the line that `ls -l` shows for a file, in the columns
// that clients which take it apart expect: those of OpenSSH.
func appendLongName(out []byte, name string, info *fsops.FileInfo, names *fsops.Names, now time.Time) []byte {
	out = append(appendModeText(out, info.Mode), ' ', ' ')
	out = appendRight(out, strconv.FormatUint(uint64(info.Nlink), 10), 3)
	out = append(out, ' ')
	out = appendLeft(out, idText(names.User(info.UID), info.UID), 8)
	out = append(out, ' ')
	out = appendLeft(out, idText(names.Group(info.GID), info.GID), 8)
	out = append(out, ' ')
	out = appendRight(out, strconv.FormatUint(uint64(info.Size), 10), 8)
	out = append(out, ' ')
	layout := "Jan _2  2006"
	// Times on the wire and in OpenSSH have whole seconds.
	if age := now.Unix() - info.Mtime.Unix(); age >= 0 && age < int64(recent/time.Second) {
		layout = "Jan _2 15:04"
	}
	out = info.Mtime.Local().AppendFormat(out, layout)
	out = append(out, ' ')
	return append(out, name...)
}

func idText(name string, id uint32) string {
	if name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// appendModeText appends a mode as strmode(3) has it.
func appendModeText(out []byte, mode uint32) []byte {
	kind := byte('?')
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		kind = '-'
	case unix.S_IFDIR:
		kind = 'd'
	case unix.S_IFLNK:
		kind = 'l'
	case unix.S_IFIFO:
		kind = 'p'
	case unix.S_IFSOCK:
		kind = 's'
	case unix.S_IFCHR:
		kind = 'c'
	case unix.S_IFBLK:
		kind = 'b'
	}
	out = append(out, kind)
	for i, letter := range []byte("rwxrwxrwx") {
		if mode&(0o400>>i) == 0 {
			letter = '-'
		}
		out = append(out, letter)
	}
	bits := out[len(out)-9:]
	special := func(flag uint32, at int, with, without byte) {
		switch {
		case mode&flag == 0:
		case bits[at] == 'x':
			bits[at] = with
		default:
			bits[at] = without
		}
	}
	special(unix.S_ISUID, 2, 's', 'S')
	special(unix.S_ISGID, 5, 's', 'S')
	special(unix.S_ISVTX, 8, 't', 'T')
	return out
}

func appendRight(out []byte, text string, width int) []byte {
	for n := len(text); n < width; n++ {
		out = append(out, ' ')
	}
	return append(out, text...)
}

func appendLeft(out []byte, text string, width int) []byte {
	out = append(out, text...)
	for n := len(text); n < width; n++ {
		out = append(out, ' ')
	}
	return out
}
