//go:build linux

package sshd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
)

// ringSize is how much output package proc keeps of one stream: enough to keep
// program and connection busy, little where there are hundreds of sessions.
const ringSize = 256 << 10

// Labels of the processes in the table, for the host.
const (
	labelConnection = "ssh.connection"
	labelSession    = "ssh.session"
)

// spec is how a command is run, and the user's login shell where it is empty.
func (s *session) spec(command string, extraEnv ...string) proc.Spec {
	spec := proc.Spec{
		Script: command, Login: command == "",
		Env: s.environ(extraEnv...), User: s.conn.grant.User,
		Stdin: proc.StdinPipe, TTY: s.tty, RingSize: ringSize,
		Labels: map[string]string{labelConnection: s.conn.account.ID(), labelSession: s.id},
	}
	if s.tty != nil {
		spec.Stdin = proc.StdinNone // the terminal is all three
	}
	return spec
}

// run runs a program to its end, or to that of the channel.
func (s *session) run(ctx context.Context, kind, name string, spec proc.Spec) {
	defer s.record(kind, name)()
	p, sub, _, err := s.conn.server.config.Processes.StartAttached(ctx, spec, proc.SubscribeOptions{Lossless: true})
	if err != nil {
		s.startFailed(err)
		return
	}
	defer func() { _ = sub.Close() }()
	s.runs(p)
	s.tasks.Go(func() { s.copyInput(ctx, p) })
	exit := s.copyOutput(ctx, sub)
	ended := access.Event{Kind: access.EventSessionEnded, Session: s.id, Reason: "the channel was closed"}
	if exit != nil {
		s.tellExit(*exit)
		ended.Reason = describe(*exit)
	}
	s.conn.account.Record(ended)
	s.finish()
	s.hangup()
}

// startFailed says why there is no program, as a shell would.
func (s *session) startFailed(err error) {
	code := 126
	var start *proc.StartError
	if errors.As(err, &start) {
		code = start.ExitCode()
	}
	message := fmt.Sprintf("guestd: %v\n", err)
	if s.tty != nil {
		message = strings.ReplaceAll(message, "\n", "\r\n")
	}
	_, _ = s.channel.Stderr().Write([]byte(message))
	s.tellExit(proc.Exit{Code: code})
	s.conn.account.Record(access.Event{Kind: access.EventSessionEnded, Session: s.id, Reason: err.Error()})
	s.finish()
}

// finish says that nothing more comes, and closes the channel on our side. It
// has ended when the peer closes its own.
func (s *session) finish() {
	_ = s.channel.CloseWrite()
	_ = s.channel.Close()
}
