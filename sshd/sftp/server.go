//go:build linux

// Package sftp serves the SSH file transfer protocol, version 3
// (draft-ietf-secsh-filexfer-02), as OpenSSH's sftp-server does: with its
// extensions, its readings of the draft, and its sizes. Files are touched
// through package fsops only, with the rights of one user.
//
// Requests take effect in the order in which they come. Only those on a handle
// that may have to wait for somebody (a FIFO, a terminal) wait in a queue of
// that handle's own, so that they hold up nothing else. What a session holds in
// memory is bounded, whatever the client sends or does not read.
package sftp

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/guestd/guestd/fsops"
)

// Defaults of [Server].
const (
	DefaultUmask      = 0o022
	DefaultMaxHandles = 1000
)

// Server serves sessions for one user. Its fields must not change once Serve
// has been called; its methods are safe for concurrent use.
type Server struct {
	// Files is the file system with the user's rights. It is required.
	Files *fsops.FS

	// Dir is the absolute path of the directory in which a session starts;
	// "" is the base of Files. If it is not a directory, sessions start in "/".
	Dir string

	// Umask takes bits from the modes of what a client creates; nil is
	// [DefaultUmask].
	Umask *uint32

	// ReadOnly refuses every request that changes something.
	ReadOnly bool

	// Permit reports whether the client may send a request; its name is one of
	// [Requests]. Nil permits all. INIT is always permitted.
	Permit func(request string) bool

	// MaxHandles bounds the files and directories that a session may have
	// open; zero is [DefaultMaxHandles].
	MaxHandles int

	// Descriptors gives one for each file and directory that is open. Where it
	// has none left, opening fails. Nil is no limit. It may be shared.
	Descriptors Budget

	// Memory gives the bytes of large buffers. Where it has none left, a session
	// moves data in smaller pieces, and a request that has to wait, for example
	// for the other side of a FIFO, holds up those behind it. Nil is no limit. It
	// may be shared.
	Memory Budget

	// Logger receives what the client is not told: why a session was ended.
	// Nil discards.
	Logger *slog.Logger

	// Audit, if not nil, is called after each operation that opens, closes or
	// changes something, also if it failed. Calls of one session do not overlap,
	// and the session waits for them.
	Audit func(Op)
}

// A Budget is a limited amount of something. Take takes n of it and reports true,
// or takes nothing and reports false if less is left; Give gives n back. Its
// methods are safe for concurrent use.
type Budget interface {
	Take(n int) bool
	Give(n int)
}

// Requests returns the names of all requests, those of the draft in lower case
// and then OpenSSH's extensions without their domain, as sftp-server -Q does.
func Requests() []string {
	names := make([]string, len(requests))
	for i := range requests {
		names[i] = requests[i].name
	}
	return names
}

// Serve serves one session on rw. It returns nil when the client has ended the
// session, an error when the client sends what is not SFTP or a write to rw fails,
// and ctx's error when ctx ends. Before it returns, all answers are sent and every
// handle is closed. It closes rw only when ctx ends; otherwise that is the
// caller's.
func (s *Server) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	closing := context.AfterFunc(ctx, func() { _ = rw.Close() })
	defer closing()
	session := s.newSession(ctx, rw)
	err := session.run()
	session.end()
	err = cmp.Or(ctx.Err(), err, session.out.close())
	if session.bulk {
		session.giveMemory(bulkMemory)
	}
	if err != nil {
		session.log.Info("sftp session ended", "error", err)
	}
	return err
}

// session is one client's. Fields belong to the goroutine of Serve unless they say
// otherwise.
type session struct {
	*Server
	log       *slog.Logger
	dir       string
	umask     uint32
	permitted []bool // for each of requests

	ctx    context.Context //nolint:containedctx // the session's own, which every operation of it gets
	cancel context.CancelFunc

	in    *input
	out   *output
	reply []byte // packets not yet given to out
	bulk  bool   // there is memory for what out holds in bulk

	files      map[uint32]*file
	dirs       map[uint32]*dir
	lastHandle uint32
	parked     sync.WaitGroup // goroutines of files that may wait
	slots      chan struct{}  // a token for each request in their queues
	auditing   sync.Mutex
}

func (s *Server) newSession(ctx context.Context, rw io.ReadWriter) *session {
	session := &session{
		Server:    s,
		log:       s.Logger,
		dir:       s.Dir,
		umask:     DefaultUmask,
		permitted: make([]bool, len(requests)),
		in:        newInput(rw),
		out:       newOutput(rw),
		files:     make(map[uint32]*file),
		dirs:      make(map[uint32]*dir),
		slots:     make(chan struct{}, maxParked),
	}
	session.ctx, session.cancel = context.WithCancel(ctx)
	if session.log == nil {
		session.log = slog.New(slog.DiscardHandler)
	}
	if s.Umask != nil {
		session.umask = *s.Umask
	}
	if session.dir == "" {
		session.dir = s.Files.Base()
	}
	if info, err := s.Files.Stat(ctx, session.dir); err != nil || !info.IsDir() {
		session.log.Info("sftp start directory", "dir", session.dir, "error", err)
		session.dir = "/"
	}
	for i, r := range requests {
		refused := s.ReadOnly && r.writes || s.Permit != nil && !s.Permit(r.name)
		session.permitted[i] = !refused
	}
	return session
}

// path makes a client's path absolute. Unlike fsops it gives a tilde no
// meaning, and it leaves "" to be refused by the kernel.
func (s *session) path(p string) string {
	switch {
	case p == "" || p[0] == '/':
		return p
	case strings.HasSuffix(s.dir, "/"):
		return s.dir + p
	}
	return s.dir + "/" + p
}

// end frees all that the session holds and waits for its goroutines.
func (s *session) end() {
	s.flush()
	s.cancel()
	for id := range s.files {
		s.closeFile(id, true, func(error) {})
	}
	s.parked.Wait()
	for id := range s.dirs {
		_ = s.closeDir(id, true)
	}
}

// takeMemory reports whether the session may hold n bytes more. giveMemory gives
// them back.
func (s *session) takeMemory(n int) bool { return s.Memory == nil || s.Memory.Take(n) }

func (s *session) giveMemory(n int) {
	if s.Memory != nil {
		s.Memory.Give(n)
	}
}

// inBulk reports whether there is memory to move bulk data. Once there is, the
// session keeps it.
func (s *session) inBulk() bool {
	if !s.bulk {
		s.bulk = s.takeMemory(bulkMemory)
	}
	return s.bulk
}
