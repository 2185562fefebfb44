//go:build linux

package sshd

import (
	"context"
	"net"
	"path"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/guestnet"
)

// Forwarding of the client's SSH agent.
const (
	requestAgent = "auth-agent-req@openssh.com"
	kindAgent    = "auth-agent@openssh.com"
)

// An agentSocket is where the programs of one session find the client's agent:
// a socket that only the session's user can reach, in a directory of its own.
type agentSocket struct {
	listener net.Listener
	dir      string
	path     string
}

// handleAgent makes the session's socket. A second request succeeds and changes
// nothing.
func (s *session) handleAgent(ctx context.Context) bool {
	if s.started || !s.conn.permits.Agent {
		return false
	}
	if s.agent != nil {
		return true
	}
	if !s.conn.descriptors.Take(costListener) {
		return false
	}
	if s.agent = s.openAgent(ctx); s.agent == nil {
		s.conn.descriptors.Give(costListener)
		return false
	}
	s.tasks.Go(func() {
		s.conn.accept(ctx, &s.tasks, s.agent.listener, func(net.Conn) (string, []byte) { return kindAgent, nil })
	})
	return true
}

// openAgent makes the socket, or returns nil.
func (s *session) openAgent(ctx context.Context) *agentSocket {
	files := s.conn.files
	dir, err := files.MkdirTemp(ctx, "/tmp", "ssh-*")
	if err != nil {
		s.conn.server.log.Debug("ssh agent socket", "error", err)
		return nil
	}
	socket := path.Join(dir, "agent."+s.id)
	l, err := s.conn.openListener(ctx, guestnet.ListenSpec{Network: "unix", Address: socket, Mode: socketMode})
	if err != nil {
		s.conn.server.log.Debug("ssh agent socket", "error", err)
		_, _ = files.Remove(ctx, dir, fsops.RemoveOptions{})
		return nil
	}
	return &agentSocket{listener: l[0], dir: dir, path: socket}
}

// closeAgent removes the socket. ctx must outlive the session.
func (s *session) closeAgent(ctx context.Context) {
	if s.agent == nil {
		return
	}
	_ = s.agent.listener.Close()
	s.conn.descriptors.Give(costListener)
	_, _ = s.conn.files.Remove(ctx, s.agent.dir, fsops.RemoveOptions{Recursive: true})
}
