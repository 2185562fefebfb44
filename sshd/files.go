//go:build linux

package sshd

import (
	"context"

	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/sshd/sftp"
)

// subsystemSFTP is the one subsystem that there is.
const subsystemSFTP = "sftp"

// serveSFTP is the sftp subsystem, which is no program of the guest: it works
// on an image that has none.
func (s *session) serveSFTP(ctx context.Context) {
	defer s.record("subsystem", subsystemSFTP)()
	server := sftp.Server{
		Files: s.conn.files, Logger: s.conn.server.log, Audit: s.auditFile,
		Descriptors: s.conn.descriptors, Memory: s.conn.memory,
	}
	exit := proc.Exit{}
	if err := server.Serve(ctx, s.channel); err != nil {
		exit.Code = 255 // as sftp-server ends where it cannot go on
	}
	// Without an exit status scp fails, although every byte arrived.
	s.tellExit(exit)
	s.conn.account.Record(access.Event{Kind: access.EventSessionEnded, Session: s.id, Reason: describe(exit)})
	s.finish()
}

// auditFile tells the account what was done with a file.
func (s *session) auditFile(op sftp.Op) {
	event := access.Event{
		Kind: access.EventFile, Session: s.id, Command: op.Request, Target: op.Path,
		Bytes: uint64(op.Read + op.Written),
	}
	if op.Target != "" {
		event.Target += " -> " + op.Target
	}
	if op.Err != nil {
		event.Reason = op.Err.Error()
	}
	s.conn.account.Record(event)
}
