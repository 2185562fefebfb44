//go:build linux

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guestd/guestd/internal/mountinfo"
)

// errNoCgroup2 is why a table does without cgroups.
var errNoCgroup2 = errors.New("no cgroup2 hierarchy is mounted")

// findCgroup2 returns the directory of the cgroup in which the agent is, in
// the cgroup2 hierarchy. That need not be at /sys/fs/cgroup: on a machine
// with a hybrid hierarchy it is elsewhere and may have no controllers.
func findCgroup2() (string, error) {
	mounts, err := mountinfo.Read()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(mounts, func(m mountinfo.Mount) bool { return m.Type == "cgroup2" })
	if i < 0 {
		return "", errNoCgroup2
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
		rel, err := filepath.Rel(mounts[i].Root, path)
		if err != nil || strings.HasPrefix(rel, "..") {
			rel = "."
		}
		return filepath.Join(mounts[i].Point, rel), nil
	}
	return "", errNoCgroup2
}
