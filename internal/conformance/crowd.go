package conformance

import (
	"fmt"
	"sync"
	"testing"

	"github.com/guestd/guestd/client"
)

// crowd is many at once.
func (s *suite) crowd(t *testing.T) {
	n := 1000
	if s.target.Slow {
		n = 100
	}
	t.Run("execs at once", func(t *testing.T) {
		ctx := s.context(t)
		each(t, n, n, func(i int) error {
			want := fmt.Sprintf("%d\n", i)
			cmd := s.client.Command("/bin/sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%200))
			out, err := cmd.Output(ctx)
			var exit *client.ExitError
			if asExit(err, &exit) && exit.Code == i%200 {
				err = nil
			}
			if string(out) != want || err != nil {
				return fmt.Errorf("exec %d printed %q: %w; %+v", i, out, err, cmd.ExitStatus)
			}
			return nil
		})
	})
	t.Run("chatty with nobody reading", func(t *testing.T) {
		ctx := s.context(t)
		before := s.metrics(t)
		started := make([]*client.Process, n)
		each(t, n, 50, func(i int) (err error) {
			started[i], err = s.client.Start(ctx, client.Spec{Args: []string{"/bin/sh", "-c", "yes chat | head -c 1000000; echo said >&2; exec sleep 1000"}})
			if err == nil {
				_, err = started[i].Wait(ctx, client.WaitOutput{Pattern: "said", Stream: client.Stderr})
			}
			return err
		})
		m := s.metrics(t)
		if m.GetOutputBytes() > m.GetOutputBytesLimit()+uint64(n)*8<<10 {
			t.Errorf("%d bytes of output are held, the cap is %d", m.GetOutputBytes(), m.GetOutputBytesLimit())
		}
		t.Logf("%d alive: %d MiB of output, %d MiB resident (%d before)", m.GetProcessesRunning(), m.GetOutputBytes()>>20, m.GetResidentBytes()>>20, before.GetResidentBytes()>>20)
		each(t, n, 50, func(i int) error {
			if started[i] == nil {
				return nil
			}
			if err := started[i].Kill(ctx); err != nil {
				return err
			}
			if _, err := started[i].Wait(ctx); err != nil {
				return err
			}
			err := started[i].Forget(ctx)
			for err != nil && ctx.Err() == nil { // among so many, one's tree may be slow to end
				err = started[i].Forget(ctx)
			}
			return err
		})
	})
}

// each calls f with 0 … n-1, some at a time, and reports the first errors.
func each(t *testing.T, n, atOnce int, f func(int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	tickets := make(chan struct{}, atOnce)
	for i := range n {
		tickets <- struct{}{}
		wg.Go(func() {
			defer func() { <-tickets }()
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	shown := 0
	for err := range errs {
		if shown++; shown <= 5 {
			t.Error(err)
		}
	}
	if shown > 5 {
		t.Errorf("and %d more", shown-5)
	}
}
