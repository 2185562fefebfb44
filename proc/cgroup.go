//go:build linux

package proc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup is the tree of one process.
type cgroup struct {
	dir       string
	hasKill   bool
	tree      *hierarchy
	oomBefore uint64 // tree.oomAbove when the process began
}

// open returns a descriptor to clone into.
func (c *cgroup) open() (int, error) {
	return unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// kill ends everything in the cgroup and below, also what is being forked
// meanwhile. It does not wait for it.
func (c *cgroup) kill() error {
	if c.hasKill {
		err := writeControl(c.dir, "cgroup.kill", "1")
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Before Linux 5.14: stop the world inside first, or a fork bomb outruns
	// the loop. A frozen process dies of SIGKILL all the same.
	if err := writeControl(c.dir, "cgroup.freeze", "1"); err != nil {
		return err
	}
	err := c.signal(unix.SIGKILL, nil)
	return errors.Join(err, writeControl(c.dir, "cgroup.freeze", "0"))
}

// signal sends sig to every process in the cgroup and below for which only
// (if not nil) holds.
func (c *cgroup) signal(sig unix.Signal, only func(pid int) bool) error {
	sent := false
	for _, pid := range c.members() {
		if only != nil && !only(pid) {
			continue
		}
		err := signalMember(pid, sig, c.contains)
		switch {
		case err == nil:
			sent = true
		case !errors.Is(err, unix.ESRCH):
			return err
		}
	}
	if !sent {
		return unix.ESRCH
	}
	return nil
}

// members lists the processes in the cgroup and in those that they made below.
func (c *cgroup) members() []int {
	var pids []int
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone in the meantime
		}
		for _, f := range readFields(filepath.Join(path, "cgroup.procs")) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// contains reports whether pid is in the cgroup or below.
func (c *cgroup) contains(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	return strings.Contains(unifiedPath(string(b))+"/", cgroupName(c.dir)+"/")
}

// remove removes the cgroup and those below; EBUSY says that something is
// alive in it.
func (c *cgroup) remove() error {
	// Not os.Remove, which tries unlink(2) first: one more lookup under the
	// hierarchy's locks for every process.
	err := unix.Rmdir(c.dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var dirs []string
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i > 0; i-- {
		_ = unix.Rmdir(dirs[i])
	}
	err = unix.Rmdir(c.dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &os.PathError{Op: "rmdir", Path: c.dir, Err: err}
}

// removeSoon removes a cgroup whose processes have been killed: they need a
// moment to die. It gives up after a second or so.
func (c *cgroup) removeSoon() error {
	err := c.remove()
	for wait := time.Millisecond; err != nil && wait < time.Second; wait *= 2 {
		time.Sleep(wait)
		err = c.remove()
	}
	return err
}

// watch opens the file whose change tells that the cgroup became empty.
func (c *cgroup) watch() (*os.File, error) {
	return os.Open(filepath.Join(c.dir, "cgroup.events"))
}

// populated reports whether anything is alive in the cgroup or below.
func (c *cgroup) populated() bool {
	b, err := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
	return err == nil && flatKey(string(b), "populated") != 0
}

// awaitEmpty waits on the file of watch until nothing is alive in the cgroup.
// kernfs wakes the poller on a change; nothing is polled. The file's read
// deadline ends the wait.
func awaitEmpty(events *os.File) error {
	conn, err := events.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		var buf [128]byte
		n, err := unix.Pread(int(fd), buf[:], 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Pread(int(fd), buf[:], 0)
		}
		// ENODEV: the cgroup has been removed.
		return err != nil || flatKey(string(buf[:n]), "populated") == 0
	})
}

// oom says what the OOM killer did to the cgroup, or nil.
func (c *cgroup) oom() *OOM {
	if c.tree == nil || len(c.tree.above) == 0 {
		return nil
	}
	events, err := os.ReadFile(filepath.Join(c.dir, "memory.events"))
	if err != nil {
		return nil
	}
	kills := flatKey(string(events), "oom_kill")
	if kills == 0 {
		return nil
	}
	o := &OOM{Scope: OOMMachine, Count: kills}
	if peak := readFields(filepath.Join(c.dir, "memory.peak")); len(peak) == 1 {
		o.Peak, _ = strconv.ParseInt(peak[0], 10, 64)
	}
	switch {
	case flatKey(string(events), "oom") > 0:
		o.Scope = OOMOwn
	case c.tree.oomAbove() > c.oomBefore:
		o.Scope = OOMSandbox
	}
	return o
}
