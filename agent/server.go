//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/access"
	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
)

// ErrServerClosed is returned by [Server.Serve] after [Server.Shutdown] or
// [Server.Close].
var ErrServerClosed = errors.New("agent: server closed")

// Limits of one server. They bound what a connection can make the agent hold,
// and are far above what a host needs.
const (
	// maxStreams is the number of calls that may run on one connection at
	// once; more wait in the client.
	maxStreams = 10_000
	// maxMessage is the largest message that is received. The largest that
	// the wire contract allows is a bulk message of 1 MiB.
	maxMessage = 4 << 20
	// handshakeTimeout ends a connection that says nothing from its start.
	handshakeTimeout = 10 * time.Second
	// minClientPing is how often a client may ping; a quicker one is cut off.
	minClientPing = 5 * time.Second
	// lingering is how long, after the grace of a shutdown, calls get to send
	// their last message and the host to close its connections. A guest that
	// closes first loses what the VMM still has queued.
	lingering = 2 * time.Second
)

// Config configures a [Server]. The zero value is useful.
type Config struct {
	// Logger gets what goes wrong and, at debug level, every call; nil
	// discards. It never gets arguments of calls.
	Logger *slog.Logger
	// Processes is the table behind ProcessService. It stays the caller's,
	// who closes it after the server; nil: New makes one with the defaults of
	// its package, which ends, with all its processes, in Close.
	Processes *proc.Table
	// Files is what FileService works on; nil: New makes one with defaults.
	Files *fsops.System
	// Access is what AccessService fills and reads, and the SSH server asks. It
	// stays the caller's, who closes it after the server; nil: there is no SSH
	// server, and AccessService refuses every call.
	Access *access.Store
	// Version is the build's version as GetInfo reports it; empty is "(devel)".
	Version string
	// Features is added to Capabilities.features, besides those that New knows
	// by itself: "ssh", where there is Access.
	Features []string
	// VsockCID returns the machine's own context id, if it is known by now;
	// nil: never known. It is called for every GetInfo and must not block.
	VsockCID func() (cid uint32, ok bool)
	// Refused returns how many connections the listeners have refused; nil:
	// none. It must not block.
	Refused func() uint64
	// Allow lists what a client may call: services ("guestd.v1.FileService")
	// and methods ("guestd.v1.FileService/Read"). nil allows everything; an
	// empty list, like every other, still allows health checks and
	// SystemService/GetInfo. What is not allowed fails with
	// PERMISSION_DENIED.
	Allow []string
}

// Server is the gRPC server of one agent. Make it with [New]; its methods may
// be called from any goroutine.
type Server struct {
	config Config
	log    *slog.Logger
	start  time.Time
	grpc   *grpc.Server
	health *health.Server
	conns  connections
	pool   *wire.Pool // for everything that is sent in bulk
	ports  *guestnet.Ports

	ownTable bool // config.Processes was made by New

	closing atomic.Bool // Shutdown or Close was called
	stop    context.CancelCauseFunc
	stopped sync.WaitGroup // what Shutdown started
	calls   sync.WaitGroup // what outlives the handler that started it
}

// New returns a server that serves nothing yet. It fails if config names
// something that does not exist.
func New(config Config) (*Server, error) {
	s := &Server{config: config, log: config.Logger, start: time.Now(), health: health.NewServer(), pool: new(wire.Pool), ports: guestnet.NewPorts()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.conns.log, s.conns.keepAlive = s.log, keepAlive{pingAfter, pingAgain}
	if s.config.Version == "" {
		s.config.Version = "(devel)"
	}
	if err := s.complete(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	running, stop := context.WithCancelCause(context.Background())
	s.stop = stop

	edge := newInterceptor(running, s.log)
	// Without grpc.NumStreamWorkers, though it saves the growing of stacks: a
	// thread that cannot be brought back from a user's rights ends with the
	// goroutine of its call, and must not be there for the next one.
	s.grpc = grpc.NewServer(
		grpc.Creds(connectionCreds{}),
		grpc.UnaryInterceptor(edge.unary),
		grpc.StreamInterceptor(edge.stream),
		grpc.ForceServerCodecV2(wire.NewCodec()),
		experimental.BufferPool(s.pool), // gRPC's own clears every buffer
		grpc.ReadBufferSize(wire.ReadBuffer),
		grpc.WriteBufferSize(wire.WriteBuffer),
		grpc.StaticStreamWindowSize(wire.UploadWindow),
		grpc.StaticConnWindowSize(wire.ConnWindow),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: math.MaxInt64}), // see keepAlive
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: minClientPing, PermitWithoutStream: true,
		}),
	)
	s.register(running.Done())
	services := s.grpc.GetServiceInfo()
	for name := range services {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	allowed, err := newAllowList(config.Allow, services)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent: %w", err), s.Close())
	}
	edge.allowed = allowed
	return s, nil
}

// complete makes what the configuration left out.
func (s *Server) complete() (err error) {
	if s.config.Files == nil {
		if s.config.Files, err = fsops.New(fsops.Config{Logger: s.log}); err != nil {
			return err
		}
	}
	if s.config.Processes == nil {
		if s.config.Processes, err = proc.NewTable(proc.Config{Logger: s.log, BootID: BootID()}); err != nil {
			return err
		}
		s.ownTable = true
	}
	if s.config.Access != nil && !slices.Contains(s.config.Features, featureSSH) {
		s.config.Features = append(slices.Clone(s.config.Features), featureSSH)
	}
	return nil
}

// Serve accepts connections on l until the server is shut down or l fails, and
// closes l. Several listeners may be served at once, each by its own call. The
// error is never nil: [ErrServerClosed] after Shutdown or Close.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(&listener{Listener: l, owner: &s.conns})
	if err == nil || errors.Is(err, grpc.ErrServerStopped) || s.closing.Load() {
		return ErrServerClosed
	}
	return fmt.Errorf("serve %v: %w", l.Addr(), err)
}

// Shutdown ends the server in good order: health checks tell NOT_SERVING, no
// connection is accepted, clients are told to open no more calls, and those
// that run may end by themselves until ctx is done. What is left then ends
// with UNAVAILABLE and reason SHUTTING_DOWN, and after two more seconds the
// connections are closed.
//
// It returns nil if every call ended by itself, else ctx's error. After it, no
// goroutine of the server is left but handlers that hang in the kernel.
// Processes are not touched.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	s.health.Shutdown()
	s.conns.closeSilent()
	drained := make(chan struct{})
	s.stopped.Go(func() {
		s.grpc.GracefulStop()
		close(drained)
	})
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
		s.stop(errShuttingDown)
		s.linger(drained)
	}
	s.stop(errShuttingDown)
	s.conns.running.Wait()
	s.calls.Wait()
	_ = s.ports.Close() // it cannot fail
	return err
}

// linger waits for the calls' last words, then closes the connections. It
// waits for handlers once more, not for ever: one that hangs in a system call
// on a dead file system would keep the machine from powering off.
func (s *Server) linger(drained <-chan struct{}) {
	timer := time.NewTimer(lingering)
	defer timer.Stop()
	select {
	case <-drained:
		return
	case <-timer.C:
	}
	s.conns.closeAll()
	s.stopped.Go(s.grpc.Stop)
	timer.Reset(lingering)
	select {
	case <-drained:
	case <-timer.C:
		s.log.Warn("handlers are still running after shutdown")
	}
}

// Close ends the server at once: connections are closed, the contexts of all
// calls are cancelled, and Close returns when their handlers have returned. It
// may be called after Shutdown, and more than once.
func (s *Server) Close() error {
	s.closing.Store(true)
	s.health.Shutdown()
	s.stop(errShuttingDown)
	s.conns.closeAll()
	s.grpc.Stop()
	s.stopped.Wait()
	s.conns.running.Wait()
	s.calls.Wait()
	_ = s.ports.Close() // it cannot fail
	if s.ownTable {
		return s.config.Processes.Close()
	}
	return nil
}
