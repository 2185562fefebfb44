//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package client

import (
	"os"
	"syscall"
)

// lockFile takes an advisory lock of a file until it is closed, and reports
// false if another open file has it.
func lockFile(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	locked := false
	err = conn.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	return err == nil && locked
}
