package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// metrics asks over a connection of its own, so that every question is asked
// under the same circumstances.
func (s *suite) metrics(t *testing.T) *guestdv1.GetMetricsResponse {
	t.Helper()
	c := s.connect(t, s.target.Dial)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.Metrics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// settled returns the metrics once two looks in a row are the same.
func (s *suite) settled(t *testing.T) *guestdv1.GetMetricsResponse {
	t.Helper()
	last := s.metrics(t)
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		m := s.metrics(t)
		if m.GetGoroutines() == last.GetGoroutines() && m.GetOpenFds() == last.GetOpenFds() {
			return m
		}
		last = m
	}
	return last
}

// forgetAll ends what tests left alive, which they should not, and drops all
// records.
func (s *suite) forgetAll(t *testing.T) {
	ctx := s.context(t)
	list, err := s.client.Processes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list {
		process := s.client.Process(info.ID)
		if info.Exit == nil {
			t.Errorf("process %s still runs: %q", info.ID, info.Spec.Args)
			if err := process.Kill(ctx); err != nil {
				t.Error(err)
			}
			if _, err := process.Wait(ctx); err != nil {
				t.Error(err)
			}
		}
		// The tree of a process that was ended with its connection has a grace.
		// And the agent itself forgets what ended five minutes ago.
		eventually(t, "process "+info.ID+" can be forgotten", func() bool {
			err := process.Forget(ctx)
			return err == nil || errors.Is(err, client.ErrProcessNotFound)
		})
	}
}

// checkLeaks waits for the agent to be as it was. The suite's own connection
// was there before and is closed now.
func (s *suite) checkLeaks(t *testing.T, before *guestdv1.GetMetricsResponse) {
	t.Helper()
	var m *guestdv1.GetMetricsResponse
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		m = s.metrics(t)
		same := m.GetGoroutines() <= before.GetGoroutines() && m.GetOpenFds() <= before.GetOpenFds()
		if same && m.GetProcessesRunning() == 0 && m.GetFileHandles() == 0 && m.GetOutputBytes() == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.Errorf("the agent is not as it was.\nbefore: %v\nafter:  %v", before, m)
}
