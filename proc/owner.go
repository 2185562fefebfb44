//go:build linux

package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Owner finds the table's process to whose tree pid belongs: the process itself,
// or whatever descends from it. It reports false for a pid of no such tree, or of
// no process.
func (t *Table) Owner(pid int) (*Process, bool) {
	var path string
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup"); err == nil {
		path = unifiedPath(string(b)) + "/"
	}
	session, err := unix.Getsid(pid)
	if err != nil {
		return nil, false
	}
	for _, p := range t.List() {
		switch {
		case p.cg != nil:
			if strings.Contains(path, cgroupName(p.cg.dir)+"/") {
				return p, true
			}
		case session == p.pid && !p.sessionReused():
			return p, true
		}
	}
	return nil, false
}

// unifiedPath is the cgroup2 path in /proc/PID/cgroup; "" without one.
func unifiedPath(file string) string {
	for line := range strings.Lines(file) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// cgroupName is the end of a process's cgroup: the table's name and the
// process's, which are unique. What stands before them in /proc depends on the
// root of the cgroup namespace, and the mount may show a part.
func cgroupName(dir string) string {
	return "/" + filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir)
}
