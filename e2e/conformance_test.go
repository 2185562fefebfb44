//go:build linux

package e2e

import (
	"testing"

	"github.com/guestd/guestd/internal/conformance"
)

// TestConformance is the suite that every transport has to pass, over vsock
// into the machine, where cgroup2 has its controllers and users are real.
func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Target{
		Dial:   dialer(t, requireVM(t)),
		Slow:   true,
		User:   "1000:1000",
		Mounts: true,
	})
}
