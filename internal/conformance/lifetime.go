package conformance

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// lifetime is about processes and the connections that started them.
func (s *suite) lifetime(t *testing.T) {
	t.Run("outlives its connection", func(t *testing.T) {
		own := &line{dial: s.target.Dial}
		c := s.connect(t, own.connect)
		process, err := c.Start(s.context(t), client.Spec{Args: []string{"/bin/sh", "-c", "echo before; sleep 1; echo after"}})
		if err != nil {
			t.Fatal(err)
		}
		own.cut()
		c.Close()
		again := s.client.Process(process.ID())
		if exit := s.exit(t, again); !exit.Success() {
			t.Errorf("exit: %v", exit)
		}
		if out := s.replay(t, again); out != "before\nafter\n" {
			t.Errorf("what is kept: %q", out)
		}
	})
	t.Run("killed with its connection", s.killedOnDisconnect)
	t.Run("idempotent start", s.idempotentStart)
	t.Run("stale handle", func(t *testing.T) {
		_, err := s.client.Process("00000000-0000-0000-0000-000000000000/some-process").Info(s.context(t))
		if !errors.Is(err, client.ErrStaleHandle) {
			t.Errorf("a handle of another boot: %v", err)
		}
		process := s.start(t, "echo ready")
		if info, err := s.client.Process(process.Handle()).Info(s.context(t)); err != nil || info.ID != process.ID() {
			t.Errorf("by its handle: %v, %v", info, err)
		}
		s.exit(t, process)
	})
	t.Run("subscribers are counted", s.subscribers)
	t.Run("forget", func(t *testing.T) {
		process := s.start(t, "echo ready; exec sleep 1000")
		if err := process.Forget(s.context(t)); err == nil {
			t.Error("a living process was forgotten")
		}
		if err := process.Kill(s.context(t)); err != nil {
			t.Fatal(err)
		}
		s.exit(t, process)
		if err := process.Forget(s.context(t)); err != nil {
			t.Error(err)
		}
		if _, err := process.Info(s.context(t)); !errors.Is(err, client.ErrProcessNotFound) {
			t.Errorf("after forgetting: %v", err)
		}
	})
	t.Run("input for a started one", func(t *testing.T) {
		process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"cat"}, OpenStdin: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"one ", "two"} {
			if err := process.WriteInput(s.context(t), []byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := process.CloseInput(s.context(t)); err != nil {
			t.Fatal(err)
		}
		s.exit(t, process)
		if out := s.replay(t, process); out != "one two" {
			t.Errorf("cat printed %q", out)
		}
		if err := process.WriteInput(s.context(t), []byte("late")); !errors.Is(err, client.ErrProcessEnded) {
			t.Errorf("input after the end: %v", err)
		}
	})
	t.Run("list", func(t *testing.T) {
		process := s.startSpec(t, client.Spec{Args: []string{"/bin/sh", "-c", "echo ready"}, Labels: map[string]string{"for": "list"}})
		s.exit(t, process)
		list, err := s.client.Processes(s.context(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			if info.ID == process.ID() {
				if info.Exit == nil || info.Spec.Labels["for"] != "list" || len(info.Spec.Env) != 0 {
					t.Errorf("listed as %+v", info)
				}
				return
			}
		}
		t.Error("it is not in the list")
	})
}

// replay reads all that is kept of a process's stdout.
func (s *suite) replay(t *testing.T, process *client.Process) string {
	t.Helper()
	attachment, err := process.Attach(s.context(t), client.AttachOptions{NoFollow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attachment.Close()
	var out bytes.Buffer
	if _, err := attachment.CopyTo(&out, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (s *suite) killedOnDisconnect(t *testing.T) {
	for _, how := range []string{"cut", "closed", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			own := &line{dial: s.target.Dial}
			c := s.connect(t, own.connect)
			defer c.Close()
			ctx, cancel := context.WithCancel(s.context(t))
			defer cancel()
			cmd := c.Command("/bin/sh", "-c", "sleep 1000 & echo ready; wait")
			cmd.OnDisconnect, cmd.NoReattach = client.KillTree, true
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			switch how {
			case "cut":
				own.cut()
			case "closed":
				c.Close()
			case "cancelled":
				cancel()
			}
			if err := cmd.Wait(); err == nil {
				t.Error("Wait saw nothing wrong")
			}
			if exit := s.exit(t, s.client.Process(cmd.Process.ID())); exit.Signal == "" {
				t.Errorf("exit: %v", exit)
			}
		})
	}
}

func (s *suite) idempotentStart(t *testing.T) {
	spec := client.Spec{ID: "once-" + strings.ToLower(s.info.GetBootId()[:8]), Args: []string{"/bin/sh", "-c", "echo ready; exec sleep 1000"}}
	first := s.startSpec(t, spec)
	second, err := s.client.Start(s.context(t), spec)
	if err != nil || second.PID() != first.PID() {
		t.Errorf("the second start: pid %d, %v; want %d", second.PID(), err, first.PID())
	}
	other := spec
	other.Args = []string{"true"}
	if _, err := s.client.Start(s.context(t), other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another spec under the same id: %v", err)
	}
	if err := first.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	s.exit(t, first)
	if err := first.Forget(s.context(t)); err != nil {
		t.Fatal(err)
	}
	third := s.startSpec(t, spec)
	if third.PID() == first.PID() {
		t.Error("a forgotten process was found again")
	}
	if err := third.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	s.exit(t, third)
}

// subscribers looks at who reads a process's output, as List tells it.
func (s *suite) subscribers(t *testing.T) {
	process := s.start(t, "echo ready; exec sleep 1000")
	count := func() int {
		info, err := process.Info(s.context(t))
		if err != nil {
			t.Fatal(err)
		}
		return info.Subscribers
	}
	if n := count(); n != 0 {
		t.Errorf("%d before anybody attached", n)
	}
	var attached []*client.Attachment
	for range 2 {
		a, err := process.Attach(s.context(t), client.AttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		attached = append(attached, a)
	}
	if n := count(); n != 2 {
		t.Errorf("%d with two attached", n)
	}
	for i, a := range attached {
		a.Close()
		eventually(t, "the stream is gone", func() bool { return count() == 1-i })
	}
	if err := process.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	s.exit(t, process)
}
