//go:build linux

package sshd

import (
	"context"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/proc"
)

// A session is one channel of type "session" (RFC 4254 §6): settings, then one
// program, or the sftp subsystem.
//
// Two goroutines matter. One reads the requests of the channel until it ends
// and never waits for the program. The other, from the moment that something
// is asked for, runs it and copies its output; a third copies the input.
type session struct {
	conn    *conn
	id      string // for the account
	channel *channel
	tasks   sync.WaitGroup
	begun   chan *proc.Process // capacity 1: the program has been started
	exit    sync.Once          // the exit is told once

	// By inTurn, to the goroutine that reads requests and back.
	asks, answers chan struct{}

	// Of the goroutine that reads requests, until something has been started.
	tty     *proc.TTY
	env     []string
	envSize int
	started bool
	agent   *agentSocket

	mu      sync.Mutex
	process *proc.Process // nil until it runs
	over    bool          // the channel has ended
	size    *proc.Size    // the latest that was asked for; nil: tty's
	signals []syscall.Signal
	unread  bool // nobody reads what the program prints

	recordMu sync.Mutex
	recorder recorder
}

// serveSession serves a session to the end of its channel.
func (c *conn) serveSession(ctx context.Context, offer ssh.NewChannel) {
	if !c.sessions.Take(1) {
		_ = offer.Reject(ssh.ResourceShortage, "too many sessions")
		return
	}
	defer c.sessions.Give(1)
	if !c.descriptors.Take(costSession) {
		_ = offer.Reject(ssh.ResourceShortage, reasonDescriptors)
		return
	}
	defer c.descriptors.Give(costSession)
	open, requests, err := offer.Accept()
	if err != nil {
		return
	}
	s := &session{conn: c, id: c.nextSession(), channel: c.newChannel(open), begun: make(chan *proc.Process, 1)}
	s.asks, s.answers = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	s.serve(ctx, requests)
	cancel()
	s.hangup()
	s.closeAgent(context.WithoutCancel(ctx))
	s.channel.ended()
	s.tasks.Wait()
}

// serve answers requests until the channel has ended on both sides, or the
// connection has.
func (s *session) serve(ctx context.Context, requests <-chan *ssh.Request) {
	var process *proc.Process
	var exited <-chan struct{}
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return
			}
			s.answer(ctx, r)
		case <-s.asks:
			for range len(requests) {
				s.answer(ctx, <-requests)
			}
			select {
			case s.answers <- struct{}{}:
			case <-ctx.Done():
			}
		case process = <-s.begun:
			exited = process.Done()
		case <-exited:
			// At once, as OpenSSH does: the output may take its time.
			exited = nil
			if exit, err := process.Wait(ctx); err == nil {
				s.tellExit(exit)
			}
		}
	}
}

// inTurn returns when the requests have been handled that the peer sent before
// the data that were read last. One that has resized its terminal may type at
// once, to a program that looks at the size then.
func (s *session) inTurn(ctx context.Context) {
	select {
	case s.asks <- struct{}{}:
	case <-ctx.Done():
		return
	}
	select {
	case <-s.answers:
	case <-ctx.Done():
	}
}

// answer handles one request. A program begins after the reply to the request,
// so that its output does not come before.
func (s *session) answer(ctx context.Context, r *ssh.Request) {
	s.conn.backlog.read(len(r.Payload))
	ok, program := s.handle(ctx, r.Type, r.Payload)
	if r.WantReply {
		_ = r.Reply(ok, nil) // fails with the channel only
	}
	if program != nil {
		s.tasks.Go(func() { program(ctx) })
	}
}

// hangup ends what the session has with its program when the channel has
// ended.
func (s *session) hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.process != nil {
		hangUp(s.process)
	}
}

// hangUp closes what a process has open to us, and sends SIGHUP if it has not
// ended: the kernel does that to a terminal's session, we to a command's group.
// OpenSSH lets commands run on until they notice by a pipe; so what nobody can
// reach any more would stay. What has left its session or ignores the signal
// goes on, and so does what an ended program has left in the background.
func hangUp(p *proc.Process) {
	p.Hangup()
	select {
	case <-p.Done():
	default:
		_ = p.Signal(syscall.SIGHUP, proc.ScopeGroup)
	}
}

// runs makes the process known to the requests, and does what they asked for
// meanwhile.
func (s *session) runs(p *proc.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		hangUp(p)
	}
	s.process = p
	s.begun <- p
	if s.size != nil {
		_ = p.Resize(*s.size)
	}
	for _, sig := range s.signals {
		_ = p.Signal(sig, proc.ScopeGroup)
	}
	s.signals = nil
	if s.unread {
		p.CloseOutput(proc.Stdout)
	}
}

// signal sends a signal to the program's process group.
func (s *session) signal(sig syscall.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.process != nil:
		return s.process.Signal(sig, proc.ScopeGroup) == nil
	case s.started && len(s.signals) < maxEarlySignals:
		s.signals = append(s.signals, sig)
		return true
	}
	return false
}

// resize sets the terminal's size; the latest one wins.
func (s *session) resize(size proc.Size) bool {
	if s.tty == nil {
		return false
	}
	s.mu.Lock()
	s.size = &size
	p := s.process
	s.mu.Unlock()
	if p == nil {
		return true
	}
	s.recordSize()
	return p.Resize(size) == nil
}

// endOutput is called when the client says that nobody reads what the program
// prints any more. Its next write to a pipe fails, as without a reader.
func (s *session) endOutput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.process != nil:
		s.process.CloseOutput(proc.Stdout)
	case s.started:
		s.unread = true
	}
}
