//go:build linux

// Package threadcred reads and changes credentials of the calling thread alone,
// by the raw system calls: Go's own change those of all threads at once. The
// caller has locked its goroutine to the thread (runtime.LockOSThread).
package threadcred

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Caps are capability sets as capset(2) takes them, the lower 32 first.
type Caps = [2]unix.CapUserData

// CanSwitch reports whether a thread with these capabilities may take on another
// user's ids and groups.
func CanSwitch(caps *Caps) bool {
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return caps[0].Effective&need == need
}

// Groups returns the supplementary groups.
func Groups() ([]uint32, error) {
	ids, err := unix.Getgroups()
	if err != nil {
		return nil, err
	}
	groups := make([]uint32, len(ids))
	for i, id := range ids {
		groups[i] = uint32(id)
	}
	return groups, nil
}

// SetGroups sets the supplementary groups; 0 is success.
func SetGroups(groups []uint32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return errno
}

// GetCaps returns the capabilities.
func GetCaps() (Caps, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps Caps
	err := unix.Capget(&header, &caps[0])
	return caps, err
}

// SetCaps sets the capabilities; 0 is success.
func SetCaps(caps *Caps) unix.Errno {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(caps)), 0)
	return errno
}
