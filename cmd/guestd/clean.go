//go:build linux

package main

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cleanMark is in the environment of an agent that has restarted itself, so
// that it does so once.
const cleanMark = "GUESTD_CLEAN_START"

// startClean restarts the agent if whoever started it left it blocked
// signals. Go hands them down to every child, where package proc would have to
// repair them at ten times the cost of a plain start; a new execution of the
// same process begins without.
func startClean(log *slog.Logger) {
	if os.Getenv(cleanMark) != "" {
		_ = os.Unsetenv(cleanMark)
		return
	}
	if !signalsBlocked() {
		return
	}
	// The mask belongs to the thread that executes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none unix.Sigset_t
	err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), cleanMark+"=1"))
	}
	log.Warn("started with blocked signals", "error", err)
}

// signalsBlocked reads the mask of proc_pid_status(5).
func signalsBlocked() bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigBlk:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && set != 0
		}
	}
	return false
}
