package conformance

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// limits are cgroup2's; a machine without a controller must say so.
func (s *suite) limits(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		cmd := s.client.Command("/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1")
		cmd.Limits = client.Limits{Memory: 32 << 20, Swap: new(int64)}
		err := cmd.Run(s.context(t))
		if s.refused(t, "memory", err) {
			return
		}
		var exit *client.ExitError
		if !asExit(err, &exit) || exit.OOM == nil || exit.OOM.Scope != client.OOMProcess || exit.OOM.Kills == 0 {
			t.Fatalf("a memory hog under a limit: %v, %+v", err, exit)
		}
		if peak := exit.OOM.Peak; peak != 0 && peak > 33<<20 {
			t.Errorf("the peak is %d", peak)
		}
	})
	t.Run("pids", s.forkBomb)
	t.Run("cpu", func(t *testing.T) {
		cmd := s.client.Command("/bin/sh", "-c", "while :; do :; done")
		cmd.Limits = client.Limits{CPUMillis: 100}
		cmd.Timeout, cmd.KillGrace = 3*time.Second, time.Second
		err := cmd.Run(s.context(t))
		if s.refused(t, "cpu", err) {
			return
		}
		var exit *client.ExitError
		if !asExit(err, &exit) || !exit.TimedOut {
			t.Fatalf("%v", err)
		}
		// A tenth of a CPU; an emulated one counts coarsely.
		if used := exit.UserTime + exit.SystemTime; used > exit.Duration/2 {
			t.Errorf("%v of CPU in %v under a limit of a tenth", used, exit.Duration)
		}
	})
}

// refused says whether the guest lacks the controller, where the start must
// have been refused with that reason.
func (s *suite) refused(t *testing.T, controller string, err error) bool {
	t.Helper()
	if s.has(controller) {
		return false
	}
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), controller) {
		t.Errorf("a limit without its controller: %v", err)
	}
	return true
}

// forkBomb is contained by a limit on pids, and ends with its tree.
func (s *suite) forkBomb(t *testing.T) {
	marker := longSleep()
	bomb := "bomb() { bomb | bomb & }; bomb; " + marker
	cmd := s.client.Command("/bin/sh", "-c", bomb)
	cmd.Limits = client.Limits{Pids: 30}
	err := cmd.Start(s.context(t))
	if s.refused(t, "pids", err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	// While it burns, the agent answers and others run.
	for range 3 {
		if out := s.sh(t, "echo alive"); out != "alive" {
			t.Errorf("beside a fork bomb: %q", out)
		}
	}
	if err := cmd.Process.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
	s.noneLeft(t, marker)
	s.noneLeft(t, "/bin/sh -c "+bomb)
}
