package conformance

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/guestd/guestd/client"
)

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

func (s *suite) terminal(t *testing.T) {
	t.Run("is one", func(t *testing.T) {
		cmd := s.client.Command("/bin/sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo $TERM && stty size")
		cmd.Terminal = &client.Terminal{Term: "vt220", Size: client.TerminalSize{Rows: 33, Columns: 111}}
		if out, err := cmd.Output(s.context(t)); string(out) != "vt220\r\n33 111\r\n" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("modes", func(t *testing.T) {
		cmd := s.client.Command("/bin/sh", "-c", "stty -a")
		cmd.Terminal = &client.Terminal{Modes: map[uint8]uint32{53: 0, 70: 0, 3: 8}} // ECHO, OPOST off; VERASE ^H
		out, err := cmd.Output(s.context(t))
		text := string(out)
		if err != nil || !strings.Contains(text, "-echo ") || !strings.Contains(text, "-opost") || !strings.Contains(text, "erase = ^H") {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("dialog", s.dialog)
	t.Run("last words", func(t *testing.T) {
		for range 20 {
			cmd := s.client.Command("/bin/sh", "-c", "printf '%2000s' end")
			cmd.Terminal = &client.Terminal{}
			if out, err := cmd.Output(s.context(t)); len(out) != 2000 || err != nil {
				t.Fatalf("%d bytes of 2000, %v", len(out), err)
			}
		}
	})
	t.Run("background job", func(t *testing.T) {
		marker := longSleep()
		cmd := s.client.Command("/bin/sh", "-c", fmt.Sprintf(`trap "" HUP; %s & echo started`, marker))
		cmd.Terminal = &client.Terminal{}
		out, err := cmd.Output(s.context(t))
		if string(out) != "started\r\n" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
		_ = cmd.Process.Kill(s.context(t))
		s.noneLeft(t, marker)
	})
}

// dialog types, resizes, interrupts and ends a shell on a terminal.
func (s *suite) dialog(t *testing.T) {
	keys, typist := io.Pipe()
	shown := &screen{}
	cmd := s.client.Command("/bin/sh")
	cmd.Env = []string{"PS1=$ ", "ENV="}
	cmd.Terminal = &client.Terminal{}
	cmd.Stdin, cmd.Stdout = keys, shown
	if err := cmd.Start(s.context(t)); err != nil {
		t.Fatal(err)
	}
	expect := func(keys, text string) {
		t.Helper()
		if _, err := io.WriteString(typist, keys); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the terminal shows "+text, func() bool { return shown.shows(text) })
	}
	expect("echo a''b\r", "ab\r\n")
	if err := cmd.Resize(s.context(t), client.TerminalSize{Rows: 7, Columns: 77}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the size is 7 77", func() bool {
		_, _ = io.WriteString(typist, "stty size\r")
		return shown.shows("7 77\r\n")
	})
	// A program that speaks has the terminal already. Of `echo; sleep` the shell
	// itself speaks, and an interrupt that comes before it has handed the
	// terminal to sleep is the shell's, and without effect.
	expect("sh -c 'echo s''leeping; exec sleep 1000'\r", "sleeping\r\n")
	expect("\x03", "^C")
	expect("echo a''live\r", "alive\r\n")
	expect("exit 5\r", "exit 5")
	err := cmd.Wait()
	var exit *client.ExitError
	if !asExit(err, &exit) || exit.Code != 5 {
		t.Errorf("%v", err)
	}
	_ = typist.Close()
}
