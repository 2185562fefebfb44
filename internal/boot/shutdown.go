//go:build linux

package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/mountinfo"
)

const (
	// busyRetries times busyDelay is how long a file system may be busy before
	// it is detached: its last user may just be on the way out.
	busyRetries = 50
	busyDelay   = 10 * time.Millisecond

	// flushLimit bounds writing back everything. A dead network file system
	// must not keep the machine from ending.
	flushLimit = 10 * time.Second
)

// endMachine writes back what is to be kept and ends the machine. It does not
// return: if the kernel refuses, PID 1 stays, since its exit is a panic.
func endMachine(action Action, powerOffByReboot bool, log *slog.Logger) {
	flushed := make(chan []error, 1)
	go func() { flushed <- releaseFileSystems() }()
	select {
	case failures := <-flushed:
		for _, err := range failures {
			log.Warn("unmount", "error", err)
		}
	case <-time.After(flushLimit):
		log.Warn("file systems are not written back in time", "limit", flushLimit)
	}
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	switch {
	case action == Halt:
		command = unix.LINUX_REBOOT_CMD_HALT
	case action == Reboot || powerOffByReboot:
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(command)
	log.Error("the kernel refused", "action", action.String(), "error", err)
	select {}
}

// releaseFileSystems unmounts what can hold data, the innermost first, and
// makes the root read-only.
func releaseFileSystems() (failures []error) {
	unix.Sync()
	mounts, err := mountinfo.Read()
	failures = append(failures, err)
	for _, m := range slices.Backward(mounts) {
		if inMemory(m.Type) {
			continue
		}
		if m.Point == "/" {
			err = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		} else {
			err = unmount(m.Point)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("release %s: %w", m.Point, err))
		}
	}
	unix.Sync()
	return slices.DeleteFunc(failures, func(err error) bool { return err == nil })
}

func unmount(target string) error {
	for range busyRetries {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(busyDelay)
	}
	return unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

// inMemory reports whether nothing in a file system of this kind outlives the
// machine.
func inMemory(kind string) bool {
	switch kind {
	case "rootfs", "tmpfs", "ramfs", "devtmpfs", "devpts", "proc", "sysfs", "cgroup", "cgroup2",
		"mqueue", "securityfs", "debugfs", "tracefs", "bpf", "hugetlbfs", "pstore", "configfs",
		"fusectl", "binfmt_misc", "efivarfs", "nsfs":
		return true
	}
	return false
}
