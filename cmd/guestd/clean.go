//go:build linux

package main

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cleanMark is in the environment of an agent that has started itself anew, so
// that it does so once.
const cleanMark = "GUESTD_CLEAN_START"

// startClean starts the agent anew if whoever started it left it blocked or
// ignored signals, as some supervisors and nohup do. Go hands both down to
// every child, where package proc would have to repair them at ten times the
// cost of a plain start; a new execution of the same process begins without.
func startClean(log *slog.Logger) {
	if os.Getenv(cleanMark) != "" {
		_ = os.Unsetenv(cleanMark)
		return
	}
	if !inheritedSignals() {
		return
	}
	// The mask belongs to the thread that executes, and a handler, unlike
	// SIG_IGN, does not outlive that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signal.Notify(make(chan os.Signal, 1))
	defer signal.Reset()
	var none unix.Sigset_t
	err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), cleanMark+"=1"))
	}
	log.Warn("started with blocked or ignored signals", "error", err)
}

// inheritedSignals reads the masks of proc_pid_status(5).
func inheritedSignals() bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigBlk" && key != "SigIgn" {
			continue
		}
		if mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil && mask != 0 {
			return true
		}
	}
	return false
}
