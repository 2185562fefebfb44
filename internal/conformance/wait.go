package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// wait is about the conditions that the agent watches.
func (s *suite) wait(t *testing.T) {
	t.Run("output across chunks", func(t *testing.T) {
		process := s.startSpec(t, client.Spec{Args: []string{"/bin/sh", "-c", "echo ready; printf 'on po'; sleep 0.2; printf 'rt 80'; sleep 0.2; echo 80 end; exec sleep 1000"}})
		result, err := process.Wait(s.context(t), client.WaitOutput{Pattern: `port (\d+) end`})
		if err != nil || string(result.Matched) != "port 8080 end" || result.Offset != uint64(len("ready\non ")) {
			t.Errorf("%q at %d, %v", result.Matched, result.Offset, err)
		}
		s.kill(t, process)
	})
	t.Run("the first of several", func(t *testing.T) {
		file := s.path(t, "flag")
		process := s.start(t, fmt.Sprintf("echo ready; sleep 0.3; : > %s; exec sleep 1000", file))
		result, err := process.Wait(s.context(t), client.WaitExit{}, client.WaitOutput{Pattern: "never"}, client.WaitFile{Path: file})
		if err != nil || result.Condition != 2 || result.Exit != nil {
			t.Errorf("%+v, %v", result, err)
		}
		s.kill(t, process)
	})
	t.Run("exit before the pattern", func(t *testing.T) {
		process := s.start(t, "echo ready; exit 3")
		result, err := process.Wait(s.context(t), client.WaitOutput{Pattern: "never"}, client.WaitExit{})
		if err != nil || result.Condition != 1 || result.Exit == nil || result.Exit.Code != 3 {
			t.Errorf("%+v, %v", result, err)
		}
	})
	t.Run("time-out", func(t *testing.T) {
		process := s.start(t, "echo ready; exec sleep 1000")
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if _, err := process.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrWaitTimeout) {
			t.Errorf("%v", err)
		}
		s.kill(t, process)
	})
	t.Run("through a cut connection", func(t *testing.T) {
		process := s.start(t, "echo ready; sleep 1; exit 9")
		done := make(chan error, 1)
		go func() {
			result, err := process.Wait(s.context(t))
			if err == nil && result.Exit.Code != 9 {
				err = fmt.Errorf("exit: %v", result.Exit)
			}
			done <- err
		}()
		s.line.cut()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("bad pattern", func(t *testing.T) {
		process := s.start(t, "echo ready")
		if _, err := process.Wait(s.context(t), client.WaitOutput{Pattern: "("}); !errors.Is(err, client.ErrInvalidRequest) {
			t.Errorf("%v", err)
		}
		s.exit(t, process)
	})
	t.Run("port and HTTP", s.waitForServer)
}

func (s *suite) kill(t *testing.T, process *client.Process) {
	t.Helper()
	if err := process.Kill(s.context(t)); err != nil {
		t.Fatal(err)
	}
	s.exit(t, process)
}

// waitForServer needs a server in the guest: busybox's or Python's.
func (s *suite) waitForServer(t *testing.T) {
	const port = 18765
	server := s.sh(t, "if busybox --list 2>/dev/null | grep -qx httpd; then echo busybox httpd -f -p 127.0.0.1:%d -h /; "+
		"elif command -v python3 >/dev/null; then echo python3 -m http.server %d --bind 127.0.0.1 -d /; fi", port, port)
	if server == "" {
		t.Skip("the guest has neither busybox httpd nor python3")
	}
	if _, err := s.client.WaitFor(withTimeout(s.context(t), 300*time.Millisecond), client.WaitPort{Port: port}); err == nil {
		t.Fatalf("something listens on port %d already", port)
	}
	process, err := s.client.Start(s.context(t), client.Spec{Args: append([]string{"/bin/sh", "-c", `sleep 0.3; exec "$@"`, "sh"}, strings.Fields(server)...)})
	if err != nil {
		t.Fatal(err)
	}
	result, err := process.Wait(s.context(t), client.WaitPort{Port: port, Own: true}, client.WaitExit{})
	if err != nil || result.Condition != 0 {
		t.Errorf("port: %+v, %v", result, err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	result, err = s.client.WaitFor(s.context(t), client.WaitHTTP{URL: url + "/no-such-file", Status: 404})
	if err != nil {
		t.Errorf("HTTP: %+v, %v", result, err)
	}
	s.kill(t, process)
}

func withTimeout(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
