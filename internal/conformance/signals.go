package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

func (s *suite) signals(t *testing.T) {
	for signal, number := range map[client.Signal]int{client.SIGTERM: 15, client.SIGKILL: 9, client.SIGHUP: 1, client.SIGUSR1: 10} {
		t.Run("ended by "+string(signal), func(t *testing.T) {
			process := s.start(t, "echo ready; exec sleep 1000")
			if err := process.Signal(s.context(t), signal, client.ScopeProcess); err != nil {
				t.Fatal(err)
			}
			exit := s.exit(t, process)
			if exit.Signal != signal || exit.SignalNumber() != number || exit.ShellCode() != 128+number {
				t.Errorf("exit: %v", exit)
			}
		})
	}
	t.Run("own signal", func(t *testing.T) {
		err := s.client.Command("/bin/sh", "-c", "kill -SEGV $$").Run(s.context(t))
		var exit *client.ExitError
		if !asExit(err, &exit) || exit.Signal != "SEGV" {
			t.Errorf("%v", err)
		}
	})
	t.Run("group", func(t *testing.T) {
		marker := longSleep()
		process := s.start(t, fmt.Sprintf("%[1]s & %[1]s & echo ready; wait", marker))
		if err := process.Signal(s.context(t), client.SIGTERM, client.ScopeGroup); err != nil {
			t.Fatal(err)
		}
		s.exit(t, process)
		s.noneLeft(t, marker)
	})
	t.Run("tree", s.signalTree)
	t.Run("ignores TERM", func(t *testing.T) {
		process := s.start(t, `trap "" TERM; echo ready; while :; do sleep 1; done`)
		if err := process.Signal(s.context(t), client.SIGTERM, client.ScopeTree); err != nil {
			t.Fatal(err)
		}
		if info, err := process.Info(s.context(t)); err != nil || info.Exit != nil {
			t.Errorf("it did not ignore it: %v, %v", info.Exit, err)
		}
		if err := process.Kill(s.context(t)); err != nil {
			t.Fatal(err)
		}
		if exit := s.exit(t, process); exit.Signal != client.SIGKILL {
			t.Errorf("exit: %v", exit)
		}
	})
	t.Run("time-out", s.timeout)
	t.Run("after the end", func(t *testing.T) {
		process := s.start(t, "echo ready")
		s.exit(t, process)
		if err := process.Signal(s.context(t), client.SIGTERM, client.ScopeProcess); !errors.Is(err, client.ErrProcessEnded) {
			t.Errorf("a signal to a process that has ended: %v", err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		process := s.start(t, "echo ready; exec sleep 1000")
		if err := process.Signal(s.context(t), "NOSUCH", client.ScopeProcess); err == nil {
			t.Error("SIGNOSUCH was sent")
		}
		if err := process.Kill(s.context(t)); err != nil {
			t.Fatal(err)
		}
		s.exit(t, process)
	})
}

// start starts a script and returns when it has printed "ready".
func (s *suite) start(t *testing.T, script string) *client.Process {
	t.Helper()
	return s.startSpec(t, client.Spec{Args: []string{"/bin/sh", "-c", script}})
}

func (s *suite) startSpec(t *testing.T, spec client.Spec) *client.Process {
	t.Helper()
	process, err := s.client.Start(s.context(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(s.context(t), client.WaitOutput{Pattern: "ready"}); err != nil {
		t.Fatal(err)
	}
	return process
}

func (s *suite) exit(t *testing.T, process *client.Process) *client.ExitStatus {
	t.Helper()
	result, err := process.Wait(s.context(t))
	if err != nil {
		t.Fatal(err)
	}
	return result.Exit
}

// longSleep is a command line that nothing else on the machine has, such as
// another run of this suite.
func longSleep() string { return fmt.Sprintf("sleep %d", 1_000_000+rand.IntN(1_000_000_000)) }

// noneLeft waits until no process of the guest has this command line.
func (s *suite) noneLeft(t *testing.T, args string) {
	t.Helper()
	eventually(t, "no process is "+args, func() bool { return s.count(t, args) == 0 })
}

// count counts the living processes with a command line.
func (s *suite) count(t *testing.T, args string) int {
	t.Helper()
	found := s.sh(t, `for p in /proc/[0-9]*; do
	[ "$(tr '\0' ' ' 2>/dev/null <$p/cmdline)" = "%s " ] || continue
	case $(sed 's/.*) //' $p/stat 2>/dev/null) in Z*|X*|'') ;; *) echo x ;; esac
done`, args)
	return strings.Count(found, "x")
}

// signalTree: neither setsid nor a double fork escapes.
func (s *suite) signalTree(t *testing.T) {
	if !s.info.GetCapabilities().GetCgroupKill() {
		t.Skip("no cgroup2 to be written to: trees are kept on a best effort")
	}
	marker := longSleep()
	process := s.start(t, fmt.Sprintf("setsid %s & (setsid sh -c '%s & %s' &) ; while :; do sleep 1; done & echo ready; wait", marker, marker, marker))
	eventually(t, "three processes have escaped their session", func() bool { return s.count(t, marker) == 3 })
	if err := process.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	s.exit(t, process)
	s.noneLeft(t, marker)
}

func (s *suite) timeout(t *testing.T) {
	// A shell on a busy machine may take long to set its trap, and to follow it.
	for limit := 500 * time.Millisecond; ; limit *= 4 {
		cmd := s.client.Command("/bin/sh", "-c", `trap "echo told" TERM; while :; do sleep 0.1; done`)
		cmd.Timeout, cmd.KillGrace = limit, limit
		out, err := cmd.Output(s.context(t))
		told := strings.HasPrefix(string(out), "told\n")
		if !told && limit < patience/16 {
			continue
		}
		var exit *client.ExitError
		if !asExit(err, &exit) || !exit.TimedOut || exit.Signal != client.SIGKILL || !told {
			t.Errorf("a process that ignores its time-out: %q, %v", out, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(s.context(t))
	cmd := s.client.Command("sleep", "1000")
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("a command whose context ended: %v", err)
	}
	s.exit(t, cmd.Process)
}
