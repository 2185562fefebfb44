//go:build linux

package sshd

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/guestd/guestd/proc"
)

// acceptsEnv reports whether a client may set a variable: what says how it
// wants to be spoken to, and nothing that changes what a shell or a program
// does (LD_PRELOAD, BASH_ENV, PATH, IFS, …). A grant may set any.
func acceptsEnv(name string) bool {
	for _, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	switch name {
	case "LANG", "LANGUAGE", "TERM", "COLORTERM", "COLORFGBG", "NO_COLOR",
		"TERM_PROGRAM", "TERM_PROGRAM_VERSION", "LC_TERMINAL", "LC_TERMINAL_VERSION",
		"GIT_PROTOCOL":
		return true
	}
	return len(name) > len("LC_") && strings.HasPrefix(name, "LC_")
}

// environ is the environment of a session's program, over what package proc
// gives to every process of the user: what the client sent, then what is not
// its to say, then the grant's.
func (s *session) environ(extra ...string) []string {
	config := &s.conn.server.config
	name := s.conn.files.Identity().Name
	path, _ := config.Processes.Getenv("PATH")
	path = cmp.Or(path, proc.DefaultPath)
	if config.ToolDir != "" {
		path += ":" + config.ToolDir
	}
	env := make([]string, 0, len(s.env)+len(extra)+len(s.conn.grant.Env)+4)
	env = append(env, s.env...)
	if s.tty != nil {
		env = append(env, "TERM="+cmp.Or(s.tty.Term, "dumb"))
	}
	env = append(env, "PATH="+path, "MAIL=/var/mail/"+name)
	env = append(env, s.addresses()...)
	if s.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+s.agent.path)
	}
	env = append(env, extra...)
	return append(env, s.conn.grant.Env...)
}

// addresses are SSH_CLIENT and SSH_CONNECTION. Where the host has not told the
// client's address they say what OpenSSH's server does without a network.
func (s *session) addresses() []string {
	const unknown = 65535
	client, clientPort, server, serverPort := "UNKNOWN", uint16(unknown), "UNKNOWN", uint16(unknown)
	if addr := s.conn.grant.Client; addr.IsValid() {
		own := s.conn.server.config.ServerAddr
		client, clientPort = addr.Addr().Unmap().String(), addr.Port()
		server, serverPort = own.Addr().Unmap().String(), own.Port()
	}
	return []string{
		fmt.Sprintf("SSH_CLIENT=%s %d %d", client, clientPort, serverPort),
		fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", client, clientPort, server, serverPort),
	}
}
