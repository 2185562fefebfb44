package archive

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// traverseFlag opens a directory that may be searched but not read.
const traverseFlag = unix.O_SEARCH

func fileInfo(st *unix.Stat_t) info {
	return info{
		mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, linked: st.Nlink > 1,
		dev: uint64(uint32(st.Dev)), ino: st.Ino, rdev: uint64(uint32(st.Rdev)),
		size: st.Size, blocks: st.Blocks,
		mtime: time.Unix(st.Mtim.Unix()),
	}
}

// setFileTime sets the modification time of an open file by its name: there is
// no call that takes a descriptor and nanoseconds. A link is not followed.
func setFileTime(_, dir int, name string, mtime time.Time) error {
	return setLinkTime(dir, name, mtime)
}

// chownUnopened gives what name is, even a link, to an owner.
func chownUnopened(dir int, name string, uid, gid uint32) error {
	return unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
}

// setLinkTime sets the modification time of what name is, even a link.
func setLinkTime(dir int, name string, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// makeSpecial is not possible relative to a directory.
func makeSpecial(int, string, *header) error {
	return errors.ErrUnsupported
}

func deviceNumber(rdev uint64) (major, minor uint32) {
	return unix.Major(rdev), unix.Minor(rdev)
}

// parseDirents appends the entries of a getdirentries(2) buffer, without types.
func parseDirents(entries []dirent, buf []byte) []dirent {
	_, _, names := unix.ParseDirent(buf, -1, nil)
	for _, name := range names {
		entries = append(entries, dirent{name: name})
	}
	return entries
}
