//go:build linux

package nsbox

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// idRange is how many users and groups a box has where it can have many.
const idRange = 65536

// idMap is how the box's users are users of this machine. Its root is always
// whoever starts the box.
type idMap struct {
	uids, gids []syscall.SysProcIDMap
	helpers    bool // newuidmap and newgidmap have to write it
}

// single says that the box has no user but root.
func (m idMap) single() bool {
	return len(m.uids) == 1 && m.uids[0].Size == 1
}

// chooseIDMap gives root every ordinary id as it is, and an ordinary user the
// subordinate ids of subuid(5) if there are any and the helpers to use them.
func chooseIDMap() idMap {
	if os.Geteuid() == 0 {
		return idMap{
			uids: []syscall.SysProcIDMap{{Size: mappedIDs("/proc/self/uid_map")}},
			gids: []syscall.SysProcIDMap{{Size: mappedIDs("/proc/self/gid_map")}},
		}
	}
	m := idMap{
		uids: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		gids: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	uid, uids := subordinateIDs("/etc/subuid")
	gid, gids := subordinateIDs("/etc/subgid")
	_, err1 := exec.LookPath("newuidmap")
	_, err2 := exec.LookPath("newgidmap")
	if uids == 0 || gids == 0 || err1 != nil || err2 != nil {
		return m
	}
	m.uids = append(m.uids, syscall.SysProcIDMap{ContainerID: 1, HostID: uid, Size: min(uids, idRange-1)})
	m.gids = append(m.gids, syscall.SysProcIDMap{ContainerID: 1, HostID: gid, Size: min(gids, idRange-1)})
	m.helpers = true
	return m
}

// mappedIDs says how many ids from 0 on exist in our own user namespace, up to
// idRange. It is at least 1.
func mappedIDs(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 1
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && inside == 0 {
			return int(min(count, idRange))
		}
	}
	return 1
}

// subordinateIDs returns the first range of our user, by name or by number.
func subordinateIDs(path string) (first, count int) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0
	}
	defer file.Close()
	number := strconv.Itoa(os.Getuid())
	name := number
	if u, err := user.LookupId(number); err == nil {
		name = u.Username
	}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		fields := strings.Split(scanner.Text(), ":")
		if len(fields) != 3 || (fields[0] != name && fields[0] != number) {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && first > 0 && count > 0 {
			return first, count
		}
	}
	return 0, 0
}

// apply sets the map in the attributes of a process to be started.
func (m idMap) apply(attr *syscall.SysProcAttr) {
	if m.helpers {
		return // applied to the running process
	}
	attr.UidMappings, attr.GidMappings = m.uids, m.gids
	attr.GidMappingsEnableSetgroups = os.Geteuid() == 0
}

// applyTo runs the helpers, if they are needed, for a process that was started
// without a map.
func (m idMap) applyTo(pid int) error {
	if !m.helpers {
		return nil
	}
	for program, ranges := range map[string][]syscall.SysProcIDMap{"newuidmap": m.uids, "newgidmap": m.gids} {
		args := []string{strconv.Itoa(pid)}
		for _, r := range ranges {
			args = append(args, strconv.Itoa(r.ContainerID), strconv.Itoa(r.HostID), strconv.Itoa(r.Size))
		}
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
