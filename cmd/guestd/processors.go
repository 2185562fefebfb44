//go:build linux

package main

import (
	"os"
	"runtime"

	"github.com/guestd/guestd/internal/parallel"
)

// newFitter returns what fits the number of processors that this program uses
// to its connections. Whoever sets GOMAXPROCS decides for himself: it is nil
// then.
func newFitter() *parallel.Fitter {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	return parallel.New(func(processors int) {
		if processors == 0 {
			runtime.SetDefaultGOMAXPROCS() // which follows the limits of the cgroup
			return
		}
		runtime.GOMAXPROCS(min(processors, runtime.NumCPU()))
	})
}
