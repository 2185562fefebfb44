//go:build linux

package guestnet

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// owner is a process that has a socket open.
type owner struct {
	pid   int
	start uint64 // its start time, in ticks since boot
	name  string
}

// findOwners looks through the descriptors of every process for the wanted
// sockets. Of several processes that have one open the oldest is its owner: a
// server's master, not the workers that it forked. This is the expensive part
// of telling who listens, a system call for each descriptor in the machine.
func findOwners(wanted map[uint64]bool) map[uint64]owner {
	found := make(map[uint64]owner, len(wanted))
	proc, err := os.Open("/proc")
	if err != nil {
		return found
	}
	names, _ := proc.Readdirnames(-1)
	_ = proc.Close()
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		var self owner
		socketsOf(pid, func(inode uint64) {
			if !wanted[inode] {
				return
			}
			if self.pid == 0 {
				var ok bool
				if self, ok = readOwner(pid); !ok {
					return
				}
			}
			if best, ok := found[inode]; !ok || self.start < best.start || self.start == best.start && self.pid < best.pid {
				found[inode] = self
			}
		})
	}
	return found
}

// socketsOf calls fn for each socket that a process has open.
func socketsOf(pid int, fn func(inode uint64)) {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return // it has ended, or is not ours to look at
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	fd := int(dir.Fd())
	var target [64]byte
	for _, name := range names {
		n, err := unix.Readlinkat(fd, name, target[:])
		if err != nil {
			continue
		}
		if inode, ok := socketInode(target[:n]); ok {
			fn(inode)
		}
	}
}

// socketInode reads "socket:[4711]".
func socketInode(target []byte) (uint64, bool) {
	number, ok := bytes.CutPrefix(target, []byte("socket:["))
	if !ok {
		return 0, false
	}
	number, ok = bytes.CutSuffix(number, []byte("]"))
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(string(number), 10, 64)
	return inode, err == nil
}

// readOwner reads /proc/PID/stat. The name in it may hold anything, also a
// bracket: the last one ends it.
func readOwner(pid int) (owner, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return owner{}, false
	}
	return parseOwner(pid, b)
}

func parseOwner(pid int, stat []byte) (owner, bool) {
	const startField = 22 - 3 // from the state on, which is the third
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return owner{}, false
	}
	f := bytes.Fields(stat[to+1:])
	if len(f) <= startField {
		return owner{}, false
	}
	start, err := strconv.ParseUint(string(f[startField]), 10, 64)
	return owner{pid: pid, start: start, name: string(stat[from+1 : to])}, err == nil
}
