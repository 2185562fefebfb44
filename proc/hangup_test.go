//go:build linux

package proc

import (
	"syscall"
	"testing"
)

// A hang-up ends who listens to it, by the signal of what was closed.
func TestHangup(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	for _, c := range []struct {
		name string
		spec Spec
		want syscall.Signal
	}{
		{"terminal", Spec{Script: "echo ready; exec sleep 1000", Shell: "/bin/sh", TTY: &TTY{}}, syscall.SIGHUP},
		{"output pipe", Spec{Script: "echo ready; exec yes", Shell: "/bin/sh"}, syscall.SIGPIPE},
		{"input pipe", Spec{Script: "echo ready; cat; exit 0", Shell: "/bin/sh", Stdin: StdinPipe}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustStart(t, tab, c.spec)
			eventually(t, "it is ready", func() bool { return p.Info().Stdout.End >= 6 })
			p.Hangup()
			p.Hangup()
			if e := mustWait(t, p); e.Signal != c.want || e.Code != 0 {
				t.Errorf("ended with %+v, want signal %v", e, c.want)
			}
			<-p.Finished()
		})
	}
}

// What ignores the hang-up and needs nothing that was closed goes on.
func TestHangupIsNoKill(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "trap '' HUP; echo ready; exec sleep 1000 >/dev/null 2>&1", Shell: "/bin/sh", TTY: &TTY{}})
	eventually(t, "it is ready", func() bool { return p.Info().Stdout.End >= 6 })
	p.Hangup()
	if !alive(p.PID()) {
		t.Error("it is gone")
	}
	if err := p.Signal(syscall.SIGKILL, ScopeTree); err != nil {
		t.Fatal(err)
	}
	if e := mustWait(t, p); e.Signal != syscall.SIGKILL {
		t.Errorf("ended with %+v", e)
	}
}

// A reader that goes away ends who writes to it, and only that.
func TestCloseOutput(t *testing.T) {
	tab := newTable(t, testConfig())
	p := mustStart(t, tab, Spec{Script: "echo ready; exec yes", Shell: "/bin/sh"})
	eventually(t, "it is ready", func() bool { return p.Info().Stdout.End >= 6 })
	p.CloseOutput(Stdout)
	p.CloseOutput(Stdout)
	if e := mustWait(t, p); e.Signal != syscall.SIGPIPE {
		t.Errorf("ended with %+v", e)
	}
	p = mustStart(t, tab, Spec{Script: "echo ready >&2; read x; echo late; echo on >&2", Shell: "/bin/sh", Stdin: StdinPipe})
	eventually(t, "it is ready", func() bool { return p.Info().Stderr.End >= 6 })
	p.CloseOutput(Stderr)
	if _, err := p.Write(t.Context(), []byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if e := mustWait(t, p); e.Success() || p.Info().Stdout.End != 5 {
		t.Errorf("ended with %+v after %d bytes", e, p.Info().Stdout.End)
	}
}

func TestTTYName(t *testing.T) {
	needTTY(t)
	tab := newTable(t, testConfig())
	out, _, _ := run(t, tab, Spec{Script: `[ "$SSH_TTY" = "$(tty)" ] && echo same`, Shell: "/bin/sh", TTY: &TTY{NameEnv: "SSH_TTY"}})
	if out != "same\r\n" {
		t.Errorf("got %q", out)
	}
}
