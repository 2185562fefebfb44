//go:build linux

package muxtest_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	check := watchLeaks()
	code := m.Run()
	if code == 0 {
		code = check()
	}
	os.Exit(code)
}

// watchLeaks returns a check for goroutines and descriptors that the tests
// left behind: 0, or 1 after saying which.
func watchLeaks() (check func() (exitCode int)) {
	// The runtime's poller keeps two descriptors from its first use on.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	files, goroutines := countFiles(), runtime.NumGoroutine()
	return func() int {
		if f := flag.Lookup("test.fuzz"); f != nil && f.Value.String() != "" {
			return 0 // the fuzzing engine keeps its own
		}
		deadline := time.Now().Add(10 * time.Second)
		for countFiles() > files || runtime.NumGoroutine() > goroutines {
			if time.Now().After(deadline) {
				fmt.Fprintf(os.Stderr, "left behind: %d goroutines, %d descriptors\n",
					runtime.NumGoroutine()-goroutines, countFiles()-files)
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
				return 1
			}
			time.Sleep(10 * time.Millisecond)
		}
		return 0
	}
}

// countFiles returns the number of open descriptors, 0 where there is no /proc.
func countFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
