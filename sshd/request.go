//go:build linux

package sshd

import (
	"context"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/access"
)

// Bounds of what a session is told before it runs.
const (
	maxEnvEntries   = 256
	maxEnvBytes     = 64 << 10
	maxEarlySignals = 16
)

// A program is what a session does once it has been asked for; it returns when
// the session's channel has been closed on our side.
type program func(ctx context.Context)

// handle answers one request of the session: whether it is granted, and what
// then begins.
func (s *session) handle(ctx context.Context, kind string, payload []byte) (ok bool, begins program) {
	switch kind {
	case "exec", "shell", "subsystem":
		return s.handleProgram(kind, payload)
	case "pty-req":
		return s.handlePTY(payload), nil
	case "window-change":
		return s.handleWindowChange(payload), nil
	case "env":
		return s.handleEnv(payload), nil
	case requestAgent:
		return s.handleAgent(ctx), nil
	case "signal":
		return s.handleSignal(payload), nil
	case "break":
		// RFC 4335. A pseudo-terminal has no line to hold down; OpenSSH says
		// yes to it and the kernel does nothing.
		return s.tty != nil, nil
	case requestEndOfWrite:
		s.endOutput()
		return true, nil
	case requestKeepAlive:
		return true, nil
	}
	// "x11-req" among them: there is no X11 here.
	return false, nil
}

// handleProgram grants the one program that a session may run.
func (s *session) handleProgram(kind string, payload []byte) (bool, program) {
	var wanted struct{ Name string }
	if s.started || kind != "shell" && ssh.Unmarshal(payload, &wanted) != nil {
		return false, nil
	}
	if strings.Contains(wanted.Name, "\x00") || !s.permitted(kind, wanted.Name) {
		return false, nil
	}
	begins := s.program(kind, wanted.Name)
	// The mutex: signals may come from now on.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = begins != nil
	return s.started, begins
}

// program is what runs: what the client asks for, unless the grant has chosen.
func (s *session) program(kind, name string) program {
	switch command := s.conn.grant.Command; {
	case command != "":
		var original []string
		if kind != "shell" {
			original = []string{"SSH_ORIGINAL_COMMAND=" + name}
		}
		return func(ctx context.Context) { s.run(ctx, kind, name, s.spec(command, original...)) }
	case kind == "exec":
		if name == "" {
			return func(ctx context.Context) { s.run(ctx, kind, name, s.spec(":")) }
		}
		return func(ctx context.Context) { s.run(ctx, kind, name, s.spec(name)) }
	case kind == "shell":
		return func(ctx context.Context) {
			s.greet(ctx)
			s.run(ctx, kind, name, s.spec(""))
		}
	case kind == "subsystem":
		return s.serveSFTP
	}
	return nil
}

// permitted reports whether the grant permits what is asked for.
func (s *session) permitted(kind, name string) bool {
	permits := &s.conn.permits
	switch kind {
	case "exec":
		return permits.Exec
	case "shell":
		return permits.Shell
	}
	return permits.SFTP && name == subsystemSFTP
}

// record tells the account what begins, and returns what ends it.
func (s *session) record(kind, name string) (end func()) {
	event := access.Event{Kind: access.EventShell, Session: s.id, TTY: s.tty != nil, Command: name}
	what := kind
	switch kind {
	case "exec":
		event.Kind = access.EventExec
		what = "exec: " + name
	case "subsystem":
		event.Kind = access.EventSubsystem
		what = name
	}
	s.conn.account.Record(event)
	return s.conn.account.Begin(what)
}

// handleEnv keeps a variable, if clients may set it.
func (s *session) handleEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	if s.started || ssh.Unmarshal(payload, &v) != nil || !acceptsEnv(v.Name) || strings.Contains(v.Value, "\x00") {
		return false
	}
	entry := v.Name + "=" + v.Value
	if len(s.env) >= maxEnvEntries || s.envSize+len(entry) > maxEnvBytes {
		return false
	}
	s.env = append(s.env, entry)
	s.envSize += len(entry)
	return true
}

// handleSignal sends the signal of RFC 4254 §6.9.
func (s *session) handleSignal(payload []byte) bool {
	var wanted struct{ Name string }
	if ssh.Unmarshal(payload, &wanted) != nil {
		return false
	}
	sig, ok := signalNumber(wanted.Name)
	return ok && s.signal(sig)
}
