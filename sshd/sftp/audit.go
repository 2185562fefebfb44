//go:build linux

package sftp

// Op is an operation of a client, for [Server.Audit].
type Op struct {
	// Request is the one of [Requests] that opened, closed or changed something.
	Request string
	Path    string // absolute; of the file, the old name, or what a link points to
	Target  string // the new name, where there are two
	Flags   int    // of an open, as open(2) has them
	Mode    uint32 // of what is created

	// Read and Written are the bytes of the file that a close ends.
	Read, Written int64
	// Forced is set on a close by the end of the session, not by the client.
	Forced bool

	Err error // nil if it was done
}

func (s *session) audit(op Op) {
	if s.Audit == nil {
		return
	}
	s.auditing.Lock()
	defer s.auditing.Unlock()
	s.Audit(op)
}

// done answers a request that was audited with its outcome.
func (s *session) done(id uint32, op Op) {
	s.audit(op)
	s.status(id, op.Err)
}
