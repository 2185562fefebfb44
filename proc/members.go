//go:build linux

package proc

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// signalMember sends sig to pid if, once a pidfd pins it, it still belongs:
// a pid out of a list may be another process by the time it is used.
func signalMember(pid int, sig unix.Signal, belongs func(pid int) bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if !belongs(pid) {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// A stat is what /proc/PID/stat says of a process's relations.
type stat struct {
	state   byte
	pgrp    int
	session int
}

// readStat parses /proc/PID/stat; false where there is no such process. The
// name in it may hold anything, also a bracket: the last one ends it.
func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(b)
}

func parseStat(b []byte) (stat, bool) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 4 || len(f[0]) != 1 {
		return stat{}, false
	}
	pgrp, err1 := strconv.Atoi(string(f[2]))
	session, err2 := strconv.Atoi(string(f[3]))
	return stat{state: f[0][0], pgrp: pgrp, session: session}, err1 == nil && err2 == nil
}

// alive is false for zombies, which no signal reaches.
func (s stat) alive() bool { return s.state != 'Z' && s.state != 'X' }

// sessionMembers lists the living processes of a session. It is the tree
// where there is no cgroup2.
func sessionMembers(session int) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if inSession(pid, session) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func inSession(pid, session int) bool {
	// The system call spares most processes the reading of a file.
	if sid, err := unix.Getsid(pid); err != nil || sid != session {
		return false
	}
	st, ok := readStat(pid)
	return ok && st.session == session && st.alive()
}

// signalSession sends sig to every process of a session; ESRCH if there is
// none.
func signalSession(session int, sig unix.Signal) error {
	err := error(unix.ESRCH)
	for _, pid := range sessionMembers(session) {
		serr := signalMember(pid, sig, func(pid int) bool { return inSession(pid, session) })
		if err != nil && !errors.Is(serr, unix.ESRCH) {
			err = serr
		}
	}
	return err
}

// killSession ends a session. A fork bomb outruns SIGKILL to one process after
// the other; but a signal to a group reaches all of it at once, also what is
// being forked at that moment. So each group goes as a whole, until a pass
// finds nothing new. ESRCH if there was nothing.
func killSession(session int) error {
	killed := map[int]bool{}
	for range killPasses {
		fresh := false
		for _, pid := range sessionMembers(session) {
			if killed[pid] {
				continue
			}
			killed[pid], fresh = true, true
			killGroupOf(pid, session)
		}
		if !fresh {
			break
		}
	}
	if len(killed) == 0 {
		return unix.ESRCH
	}
	return nil
}

// killPasses bounds the chase after processes that keep changing their group.
const killPasses = 1000

// killGroupOf kills the group of a member of the session. The member is
// stopped first: it then stays, and with it the number of its group.
func killGroupOf(pid, session int) {
	belongs := func(pid int) bool { return inSession(pid, session) }
	if signalMember(pid, unix.SIGSTOP, belongs) != nil {
		return
	}
	if st, ok := readStat(pid); ok && st.session == session && st.pgrp > 1 {
		_ = unix.Kill(-st.pgrp, unix.SIGKILL)
	}
	_ = signalMember(pid, unix.SIGKILL, belongs)
}
