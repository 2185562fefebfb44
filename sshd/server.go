//go:build linux

package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/internal/accept"
)

// ErrServerClosed is returned by [Server.Serve] after [Server.Shutdown] or
// [Server.Close].
var ErrServerClosed = errors.New("sshd: server closed")

// A Server serves SSH. Make it with [New]; its methods may be called from any
// goroutine.
type Server struct {
	config  Config
	log     *slog.Logger
	hostKey ssh.Signer
	buffers bufferPool // of the connections
	copies  bufferPool // of what they carry
	ballast ballast

	unread      ledger  // what peers have sent and nobody has read
	sessions    *budget // of all connections, as are the descriptors and the memory
	descriptors *budget
	memory      *budget // of large buffers, in bytes

	closing context.Context //nolint:containedctx // ends with Close; the connections' parent
	close   context.CancelFunc

	mu        sync.Mutex
	closed    bool // Shutdown or Close was called
	listeners map[net.Listener]struct{}
	conns     sync.WaitGroup
}

// New returns a server that serves nothing yet.
func New(config Config) (*Server, error) {
	if config.Access == nil || config.Processes == nil || config.Files == nil {
		return nil, errors.New("sshd: Access, Processes and Files must be set")
	}
	config.setDefaults()
	signer, err := ssh.NewSignerFromKey(config.Access.HostKey())
	if err != nil {
		return nil, fmt.Errorf("sshd: host key: %w", err)
	}
	s := &Server{
		config: config, log: config.Logger, hostKey: signer,
		buffers:     bufferPool{size: wireBuffer},
		copies:      bufferPool{size: copyBuffer},
		unread:      ledger{limit: config.MaxUnread},
		sessions:    newBudget(config.MaxSessions),
		descriptors: newBudget(config.MaxDescriptors),
		memory:      newBudget(config.MaxBuffers),
		listeners:   make(map[net.Listener]struct{}),
	}
	s.unread.memory = s.liveMemory
	s.closing, s.close = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections on l until the server is shut down or l fails, and
// closes l. Who may connect at all is the listener's affair. Several listeners
// may be served at once, each by its own call. The error is never nil:
// [ErrServerClosed] after Shutdown or Close.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.enter(l) {
		return ErrServerClosed
	}
	defer s.leave(l)
	err := s.accept(l, func(nc net.Conn) {
		if !s.start(nc) {
			nc.Close()
		}
	})
	if s.isClosed() {
		return ErrServerClosed
	}
	return fmt.Errorf("serve %v: %w", l.Addr(), err)
}

// Between two attempts to accept where there are no descriptors.
const acceptPause, acceptMost = 5 * time.Millisecond, time.Second

// accept hands on what l accepts, until l is closed or fails, or the server is
// closed, and returns l's error. It waits out what passes: being out of
// descriptors, most likely.
func (s *Server) accept(l net.Listener, each func(net.Conn)) error {
	for pause := acceptPause; ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			each(nc)
		case accept.IsTemporary(err):
			s.log.Warn("accept", "address", l.Addr(), "error", err, "retry", pause)
			if !s.sleep(pause) {
				return err
			}
			pause = min(2*pause, acceptMost)
		default:
			return err
		}
	}
}

// sleep reports false if the server was closed meanwhile.
func (s *Server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !s.isClosed()
	case <-s.closing.Done():
		return false
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) enter(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[l] = struct{}{}
	}
	return !s.closed
}

func (s *Server) leave(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// start serves a connection in a goroutine, unless the server is closed.
func (s *Server) start(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns.Go(func() { s.serve(nc) })
	return true
}

// stop accepts nothing any more.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
}

// Shutdown accepts no connection any more and waits for those that are there
// to end by themselves. When ctx ends first it closes them, as Close does, and
// returns ctx's error; like Close it waits for them. Processes are not touched,
// except that those of the connections are hung up.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	ended := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.close()
	<-ended
	return context.Cause(ctx)
}

// Close closes listeners and connections and waits for what they started, which
// is for ever where a file system that one of them uses does not answer. It may
// be called after Shutdown, and more than once.
func (s *Server) Close() error {
	s.stop()
	s.close()
	s.conns.Wait()
	return nil
}
