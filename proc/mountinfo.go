//go:build linux

package proc

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// errNoCgroup2 is why a table does without cgroups.
var errNoCgroup2 = errors.New("no cgroup2 hierarchy is mounted")

// findCgroup2 returns the directory of the cgroup in which the agent is, in
// the cgroup2 hierarchy. That need not be at /sys/fs/cgroup: on a machine
// with a hybrid hierarchy it is elsewhere and may have no controllers.
func findCgroup2() (string, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer func() { _ = mounts.Close() }()
	root, point, err := cgroup2Mount(mounts)
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		// In a container the mount may show a part of the hierarchy only.
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.HasPrefix(rel, "..") {
			rel = "."
		}
		return filepath.Join(point, rel), nil
	}
	return "", errNoCgroup2
}

// cgroup2Mount finds the first cgroup2 mount in mountinfo (proc(5)): the root
// of the mount within the hierarchy, and where it is mounted.
func cgroup2Mount(mountinfo io.Reader) (root, point string, err error) {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		mount, source, ok := strings.Cut(lines.Text(), " - ")
		if !ok || !strings.HasPrefix(source, "cgroup2 ") {
			continue
		}
		f := strings.Fields(mount)
		if len(f) < 5 {
			continue
		}
		return unescapeMount(f[3]), unescapeMount(f[4]), nil
	}
	if err := lines.Err(); err != nil {
		return "", "", err
	}
	return "", "", errNoCgroup2
}

// unescapeMount undoes mountinfo's octal escapes of space, tab, newline and
// backslash.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
