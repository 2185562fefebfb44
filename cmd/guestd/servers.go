//go:build linux

package main

import (
	"errors"
	"log/slog"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd"
)

// servers are what stands behind the doors. They know nothing of each other but
// the store, which the host fills and people are let in by.
type servers struct {
	store  *access.Store
	host   *agent.Server
	people *sshd.Server
}

// newServers makes servers that serve nothing yet.
func newServers(c config, d *doors, processes *proc.Table, log *slog.Logger) (*servers, error) {
	files, err := fsops.New(fsops.Config{Logger: log})
	if err != nil {
		return nil, err
	}
	store, err := access.New(access.Config{Logger: log})
	if err != nil {
		return nil, err
	}
	tools := ""
	if len(d.ssh) > 0 {
		tools = linkTools(log)
	}
	people, err := sshd.New(sshd.Config{
		Logger:     log,
		Access:     store,
		Processes:  processes,
		Files:      files,
		Version:    buildVersion(),
		ToolDir:    tools,
		MaxUnread:  unreadTotal(),
		MaxBuffers: bufferTotal(),
	})
	if err != nil {
		return nil, err
	}
	config := agent.Config{
		Logger:    log,
		Processes: processes,
		Files:     files,
		Version:   buildVersion(),
		Allow:     c.Allow,
		Refused:   d.refused,
		VsockCID:  localCID,
	}
	if len(d.ssh) > 0 {
		config.Access = store // without a door, credentials to it are refused
	}
	host, err := agent.New(config)
	if err != nil {
		return nil, usageError{err} // the list of what is allowed
	}
	return &servers{store: store, host: host, people: people}, nil
}

// close ends the servers, and every connection.
func (s *servers) close() error {
	return errors.Join(s.host.Close(), s.people.Close(), s.store.Close())
}
