//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/mountinfo"
)

// fileSystem is one that a Linux userland expects.
type fileSystem struct {
	kind, target string
	flags        uintptr
	options      []string // tried in turn: older kernels refuse newer options
}

// fileSystems are in the order in which they can be mounted.
func fileSystems(container, tmp bool) []fileSystem {
	const safe = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	all := []fileSystem{
		{"proc", "/proc", safe, []string{""}},
		{"sysfs", "/sys", safe, []string{""}},
		{"devtmpfs", "/dev", syscall.MS_NOSUID, []string{"mode=0755"}},
		{"devpts", "/dev/pts", syscall.MS_NOSUID | syscall.MS_NOEXEC, []string{"gid=5,mode=620,ptmxmode=666", "mode=620,ptmxmode=666"}},
		tmpfs("/dev/shm", "50%"),
		{"tmpfs", "/run", syscall.MS_NOSUID | syscall.MS_NODEV, []string{"mode=0755,size=10%"}},
	}
	if tmp {
		all = append(all, tmpfs("/tmp", tmpSize))
	}
	if !container {
		all = append(all, fileSystem{"cgroup2", cgroupRoot, safe, []string{"nsdelegate,memory_recursiveprot", ""}})
	}
	return all
}

// mountAll mounts those that are missing, in order.
func mountAll(list []fileSystem) (failures []error) {
	mounted := make(map[string]bool)
	for _, fsys := range list {
		if fsys.kind == "proc" {
			if !procIsOurs() {
				failures = append(failures, fsys.mount())
			}
			// Only now is there a list of what else is mounted.
			mounts, err := mountinfo.Read()
			failures = append(failures, err)
			for _, m := range mounts {
				mounted[m.Point] = true
			}
			continue
		}
		if !mounted[fsys.target] {
			failures = append(failures, fsys.mount())
		}
	}
	return failures
}

// procIsOurs is false also where the /proc of another pid namespace is
// mounted, as after a plain unshare(CLONE_NEWPID): it would show processes
// that we cannot see under numbers that mean others to us.
func procIsOurs() bool {
	self, err := os.Readlink("/proc/self")
	return err == nil && self == "1"
}

func (fsys fileSystem) mount() error {
	if err := os.MkdirAll(fsys.target, 0o755); err != nil {
		return err
	}
	var err error
	for _, options := range fsys.options {
		if err = syscall.Mount(fsys.kind, fsys.target, fsys.kind, fsys.flags, options); err == nil {
			return nil
		}
	}
	return fmt.Errorf("mount %s on %s: %w", fsys.kind, fsys.target, err)
}

// tmpMode is that of hier(7): everybody may make files, and remove their own.
const tmpMode = 0o777 | fs.ModeSticky

// makeTmp makes the directory for temporary files where there is none, as in an
// initramfs that has nothing but guestd, and puts a tmpfs there where it cannot
// be written to, as on a root that is read-only.
func makeTmp(path string) error {
	err := os.Mkdir(path, tmpMode)
	if errors.Is(err, fs.ErrExist) {
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
			return err
		}
		return tmpfs(path, tmpSize).mount()
	}
	if err == nil {
		err = os.Chmod(path, tmpMode) // whatever the umask
	}
	return err
}

// tmpSize keeps whoever fills all file systems that everybody may write to from
// taking all of the memory: no process that the kernel could kill has that of a
// file, and it panics.
const tmpSize = "25%"

// tmpfs is a file system in memory that everybody may write to, with a part of
// the machine's memory.
func tmpfs(path, size string) fileSystem {
	return fileSystem{"tmpfs", path, syscall.MS_NOSUID | syscall.MS_NODEV, []string{"mode=1777,size=" + size}}
}

// linkDevices makes the links in /dev that no kernel makes.
func linkDevices() (failures []error) {
	links := [][2]string{
		{"/dev/fd", "/proc/self/fd"},
		{"/dev/stdin", "/proc/self/fd/0"},
		{"/dev/stdout", "/proc/self/fd/1"},
		{"/dev/stderr", "/proc/self/fd/2"},
	}
	for _, link := range links {
		if err := os.Symlink(link[1], link[0]); err != nil && !errors.Is(err, fs.ErrExist) {
			failures = append(failures, err)
		}
	}
	return append(failures, linkPtmx())
}

// linkPtmx makes /dev/ptmx where it is missing. devtmpfs's own node stays: it
// opens the devpts that is mounted next to it (Documentation/filesystems/
// devpts.rst), and a devtmpfs is one for the whole kernel, so that to replace
// something in it would reach every other namespace.
func linkPtmx() error {
	if _, err := os.Lstat("/dev/ptmx"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat("/dev/pts/ptmx"); err != nil {
		return fmt.Errorf("link /dev/ptmx: %w", err)
	}
	return os.Symlink("pts/ptmx", "/dev/ptmx")
}
