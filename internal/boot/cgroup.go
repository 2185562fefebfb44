//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The cgroup2 tree that a machine has after [Run] brought it up. Processes may
// only be in leaves once controllers are handed down (cgroups(7), "no internal
// processes"), hence PID 1 and the agent have one each.
const (
	cgroupRoot = "/sys/fs/cgroup"
	initCgroup = cgroupRoot + "/init"

	// AgentCgroup is the agent's leaf.
	AgentCgroup = cgroupRoot + "/guestd"

	// WorkloadCgroup is where the agent makes the cgroups of the processes it
	// starts, with every controller of the kernel. It holds no process itself.
	// It does not exist where cgroup2 could not be set up.
	WorkloadCgroup = cgroupRoot + "/workload"
)

// What the kernel does not take back from PID 1 and the agent, in bytes, when it
// is short of memory; it is not set aside. Without it they lose the pages of
// their program first, which can be read again: with its root on a disk, a guest
// whose workload took all memory was seen to answer nobody for longer than half a
// minute, while the OOM killer still saw pages to reclaim.
const initMemory, agentMemory = "16777216", "67108864"

// setupCgroups makes the tree above, enables every controller down to the
// children of WorkloadCgroup, and moves PID 1 into its leaf.
func setupCgroups() (failures []error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return []error{errors.Join(fmt.Errorf("no cgroup2 on %s", cgroupRoot), err)}
	}
	for _, path := range []string{initCgroup, AgentCgroup, WorkloadCgroup} {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			failures = append(failures, err)
		}
	}
	failures = append(failures, writeFile(initCgroup+"/cgroup.procs", strconv.Itoa(os.Getpid())))
	for _, path := range []string{cgroupRoot, WorkloadCgroup} {
		failures = append(failures, enableControllers(path)...)
	}
	return append(failures, protectMemory(initCgroup, initMemory), protectMemory(AgentCgroup, agentMemory))
}

// protectMemory keeps so many bytes of a cgroup from being reclaimed, if the
// kernel can.
func protectMemory(path, bytes string) error {
	err := writeFile(path+"/memory.min", bytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// enableControllers hands every controller that the cgroup has on to its
// children. All at once is several times as fast; where one refuses, one by
// one, so that it does not keep the others.
func enableControllers(path string) (failures []error) {
	text, err := os.ReadFile(path + "/cgroup.controllers")
	if err != nil {
		return []error{err}
	}
	controllers := strings.Fields(string(text))
	if len(controllers) == 0 {
		return nil
	}
	control := path + "/cgroup.subtree_control"
	if writeFile(control, "+"+strings.Join(controllers, " +")) == nil {
		return nil
	}
	for _, controller := range controllers {
		failures = append(failures, writeFile(control, "+"+controller))
	}
	return failures
}

// protectFromOOM takes PID 1, and by inheritance the agent, out of the OOM
// killer's choice. The agent resets it for what it starts.
func protectFromOOM() error {
	err := writeFile("/proc/self/oom_score_adj", "-1000")
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		// In a user namespace only our own, higher, values may be set.
		return nil
	}
	return err
}

// writeFile writes to a file of the kernel, in one write(2), without creating
// or truncating anything.
func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}
