package main

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/guestd/guestd/client"
)

// jsonFile is a file as --json prints it; jsonHelp documents it.
type jsonFile struct {
	Name       string    `json:"name"`
	RawName    []byte    `json:"raw_name,omitempty"`
	Path       string    `json:"path"`
	RawPath    []byte    `json:"raw_path,omitempty"`
	Type       string    `json:"type"`
	Mode       string    `json:"mode"`
	Size       int64     `json:"size"`
	Allocated  int64     `json:"allocated"`
	Links      uint32    `json:"links"`
	Inode      uint64    `json:"inode"`
	UID        uint32    `json:"uid"`
	GID        uint32    `json:"gid"`
	Owner      string    `json:"owner,omitempty"`
	Group      string    `json:"group,omitempty"`
	ModifyTime time.Time `json:"modify_time,omitzero"`
	AccessTime time.Time `json:"access_time,omitzero"`
	ChangeTime time.Time `json:"change_time,omitzero"`
	BirthTime  time.Time `json:"birth_time,omitzero"`
	Target     *string   `json:"target,omitempty"`
	RawTarget  []byte    `json:"raw_target,omitempty"`
}

func newJSONFile(path string, i *client.FileInfo) jsonFile {
	j := jsonFile{
		Name:       i.Name(),
		RawName:    raw(i.Name()),
		Path:       path,
		RawPath:    raw(path),
		Type:       typeName(i.Mode()),
		Mode:       octalMode(i.Mode()),
		Size:       i.Size(),
		Allocated:  i.Allocated(),
		Links:      i.Links(),
		Inode:      i.Inode(),
		UID:        i.UID(),
		GID:        i.GID(),
		Owner:      i.Owner(),
		Group:      i.Group(),
		ModifyTime: i.ModTime(),
		AccessTime: i.AccessTime(),
		ChangeTime: i.ChangeTime(),
		BirthTime:  i.BirthTime(),
	}
	if i.Type() == fs.ModeSymlink {
		target := i.Target()
		j.Target, j.RawTarget = &target, raw(target)
	}
	return j
}

func typeName(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "char_device"
	case fs.ModeDevice:
		return "block_device"
	default:
		return "unknown"
	}
}

// linuxBits are the permission bits as chmod has them.
func linuxBits(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

func octalMode(mode fs.FileMode) string { return fmt.Sprintf("%04o", linuxBits(mode)) }

// modeString is a mode as ls prints it: "drwxr-sr-t".
func modeString(mode fs.FileMode) string {
	letters := map[string]byte{
		"file": '-', "directory": 'd', "symlink": 'l', "fifo": 'p', "socket": 's',
		"char_device": 'c', "block_device": 'b', "unknown": '?',
	}
	text := []byte("?rwxrwxrwx")
	text[0] = letters[typeName(mode)]
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			text[i+1] = '-'
		}
	}
	special := func(flag fs.FileMode, at int, letter byte) {
		if mode&flag == 0 {
			return
		}
		if text[at] == '-' {
			letter -= 'a' - 'A'
		}
		text[at] = letter
	}
	special(fs.ModeSetuid, 3, 's')
	special(fs.ModeSetgid, 6, 's')
	special(fs.ModeSticky, 9, 't')
	return string(text)
}

// ownerName is a name, or the number where the guest has none.
func ownerName(name string, id uint32) string {
	if name == "" {
		return fmt.Sprint(id)
	}
	return escape(name)
}
