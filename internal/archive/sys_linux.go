package archive

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// traverseFlag opens a directory that may be searched but not read.
const traverseFlag = unix.O_PATH

func fileInfo(st *unix.Stat_t) info {
	return info{
		mode: st.Mode, uid: st.Uid, gid: st.Gid, linked: st.Nlink > 1,
		dev: st.Dev, ino: st.Ino, rdev: st.Rdev,
		size: st.Size, blocks: st.Blocks,
		mtime: time.Unix(st.Mtim.Unix()),
	}
}

// setFileTime sets the modification time of an open file; the access time
// stays. The system call is made directly because x/sys/unix has no way to pass
// the null path that means "the descriptor itself" on every kernel.
func setFileTime(fd, _ int, _ string, mtime time.Time) error {
	ts, err := times(mtime)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// chownUnopened gives what name is, even a link, to an owner. It must be new and
// so have one name: else somebody who may write to the directory has put a hard
// link to another file in its place, to be given that.
func chownUnopened(dir int, name string, uid, gid uint32) error {
	fd, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer release(fd)
	st, err := statFD(fd)
	if err != nil || (st.uid == uid && st.gid == gid) {
		return err
	}
	if st.linked {
		return unix.EMLINK
	}
	return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
}

// setLinkTime sets the modification time of what name is, even a link.
func setLinkTime(dir int, name string, mtime time.Time) error {
	ts, err := times(mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// times leaves the access time alone.
func times(mtime time.Time) ([2]unix.Timespec, error) {
	ts, err := unix.TimeToTimespec(mtime)
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}, err
}

// parseDirents appends the entries of a getdents64(2) buffer: 8 bytes of inode,
// 8 of offset, 2 of length, 1 of type, the name and a NUL.
func parseDirents(entries []dirent, buf []byte) []dirent {
	const nameOffset = 19
	for len(buf) > nameOffset {
		length := int(binary.NativeEndian.Uint16(buf[16:]))
		if length <= nameOffset || length > len(buf) {
			break
		}
		name := cString(buf[nameOffset:length])
		if name != "." && name != ".." {
			entries = append(entries, dirent{name: name, mode: uint32(buf[18]) << 12})
		}
		buf = buf[length:]
	}
	return entries
}

// makeSpecial creates a FIFO or device node with exactly the mode of h.
func makeSpecial(dir int, name string, h *header) error {
	mode := h.mode & (modePerm | modeSticky)
	kinds := map[kind]uint32{kindFIFO: unix.S_IFIFO, kindChar: unix.S_IFCHR, kindBlock: unix.S_IFBLK}
	if err := unix.Mknodat(dir, name, kinds[h.kind]|mode, int(unix.Mkdev(h.major, h.minor))); err != nil {
		return err
	}
	// The process's umask took bits from the mode. Through a descriptor that
	// only names the node nothing is opened, and nothing else can be hit.
	fd, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer release(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

func deviceNumber(rdev uint64) (major, minor uint32) {
	return unix.Major(rdev), unix.Minor(rdev)
}
