//go:build linux

package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/guestd/guestd/internal/guestnet"
	"github.com/guestd/guestd/internal/wire"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// processService is ProcessService on top of a proc.Table. Exec is in exec.go,
// Wait in wait.go.
type processService struct {
	guestdv1.UnimplementedProcessServiceServer

	table *proc.Table
	pool  *wire.Pool
	ports *guestnet.Ports // told of every start, on which listening may follow
	// background holds what outlives the call that began it: see exec.go. Its
	// owner ends it by closing quit, and awaits it.
	background *sync.WaitGroup
	quit       <-chan struct{}

	envMu sync.Mutex // held from the reading of the environment to its change
}

// Start starts a process.
func (s *processService) Start(ctx context.Context, req *guestdv1.StartRequest) (*guestdv1.StartResponse, error) {
	spec, err := specOf(req.Spec)
	if err != nil {
		return nil, err
	}
	p, created, err := s.table.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.ports.Poke()
	return &guestdv1.StartResponse{Process: processMessage(p), Created: created}, nil
}

// Signal sends a signal.
func (s *processService) Signal(_ context.Context, req *guestdv1.SignalRequest) (*guestdv1.SignalResponse, error) {
	p, err := s.process(req.Process)
	if err != nil {
		return nil, err
	}
	sig, scope, err := signalOf(req.Number, req.Name, req.Scope)
	if err != nil {
		return nil, err
	}
	if err := p.Signal(sig, scope); err != nil {
		return nil, err
	}
	return &guestdv1.SignalResponse{}, nil
}

// WriteInput writes to a process's stdin.
func (s *processService) WriteInput(ctx context.Context, req *guestdv1.WriteInputRequest) (*guestdv1.WriteInputResponse, error) {
	p, err := s.process(req.Process)
	if err != nil {
		return nil, err
	}
	if len(req.Data) > wire.MaxData {
		return nil, invalidRequest("data: %d bytes are more than %d", len(req.Data), wire.MaxData)
	}
	if len(req.Data) > 0 {
		if _, err := p.Write(ctx, req.Data); err != nil {
			return nil, inputError(err)
		}
	}
	if req.Eof {
		err := p.CloseStdin(ctx)
		// A process that ended on what it was just given, which closed its
		// stdin, has done what was wanted.
		if err != nil && (len(req.Data) == 0 || !errors.Is(err, proc.ErrStdinClosed)) {
			return nil, inputError(err)
		}
	}
	return &guestdv1.WriteInputResponse{}, nil
}

// inputError says of a pipe that nobody reads any more what the wire does.
func inputError(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) {
		return &callError{reason: guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED, err: err}
	}
	return err
}

// Resize sets a terminal's size.
func (s *processService) Resize(_ context.Context, req *guestdv1.ResizeRequest) (*guestdv1.ResizeResponse, error) {
	p, err := s.process(req.Process)
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(req.Size)
	if err != nil {
		return nil, err
	}
	if err := p.Resize(size); err != nil {
		return nil, err
	}
	return &guestdv1.ResizeResponse{}, nil
}

// Get describes a process.
func (s *processService) Get(_ context.Context, req *guestdv1.GetRequest) (*guestdv1.GetResponse, error) {
	p, err := s.process(req.Process)
	if err != nil {
		return nil, err
	}
	return &guestdv1.GetResponse{Process: processMessage(p)}, nil
}

// List describes all processes.
func (s *processService) List(context.Context, *guestdv1.ListRequest) (*guestdv1.ListResponse, error) {
	list := s.table.List()
	resp := &guestdv1.ListResponse{Processes: make([]*guestdv1.Process, len(list))}
	for i, p := range list {
		resp.Processes[i] = processMessage(p)
	}
	return resp, nil
}

// settling is how long the end of a tree may lag behind its process's exit.
const settling = 2 * time.Second

// Forget drops the record of a process that has ended.
func (s *processService) Forget(ctx context.Context, req *guestdv1.ForgetRequest) (*guestdv1.ForgetResponse, error) {
	p, err := s.process(req.Process)
	if err != nil {
		return nil, err
	}
	s.settle(ctx, p)
	if err := s.table.Remove(req.Process); err != nil {
		return nil, err
	}
	return &guestdv1.ForgetResponse{}, nil
}

// settle waits, within reason, for the rest of an exited process's tree, which
// is often killed with it: who has just seen the exit must not be told that
// something is alive.
func (s *processService) settle(ctx context.Context, p *proc.Process) {
	select {
	case <-p.Done():
	default:
		return
	}
	timer := time.NewTimer(settling)
	defer timer.Stop()
	select {
	case <-p.Finished():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// GetEnvironment returns the sandbox-wide environment.
func (s *processService) GetEnvironment(context.Context, *guestdv1.GetEnvironmentRequest) (*guestdv1.GetEnvironmentResponse, error) {
	return &guestdv1.GetEnvironmentResponse{Env: s.environment()}, nil
}

// UpdateEnvironment changes it.
func (s *processService) UpdateEnvironment(_ context.Context, req *guestdv1.UpdateEnvironmentRequest) (*guestdv1.UpdateEnvironmentResponse, error) {
	s.envMu.Lock()
	defer s.envMu.Unlock()
	unset := slices.Clone(req.Unset)
	if req.Clear {
		for _, kv := range s.table.Environ() {
			key, _, _ := strings.Cut(kv, "=")
			unset = append(unset, key)
		}
	}
	set, err := envOf("set", req.Set, nil)
	if err != nil {
		return nil, err
	}
	if err := s.table.UpdateEnv(set, unset); err != nil {
		return nil, err
	}
	return &guestdv1.UpdateEnvironmentResponse{Env: s.environment()}, nil
}

// environment is the sandbox-wide environment as the wire has it.
func (s *processService) environment() map[string]string {
	list := s.table.Environ()
	env := make(map[string]string, len(list))
	for _, kv := range list {
		key, value, _ := strings.Cut(kv, "=")
		env[readable(key)] = readable(value)
	}
	return env
}

// process finds the process of a request.
func (s *processService) process(id string) (*proc.Process, error) {
	if id == "" {
		return nil, invalidRequest("process: is missing")
	}
	return s.table.Get(id)
}

// signalOf translates a signal, which has either a number or a name.
func signalOf(number uint32, name string, scope guestdv1.SignalScope) (syscall.Signal, proc.Scope, error) {
	sig := syscall.Signal(number)
	switch {
	case (number == 0) == (name == ""):
		return 0, 0, invalidRequest("number, name: one of them must be set")
	case number > 64:
		return 0, 0, invalidRequest("number: no signal %d", number)
	case name != "":
		var ok bool
		if sig, ok = proc.ParseSignal(name); !ok {
			return 0, 0, invalidRequest("name: no signal %q", name)
		}
	}
	switch scope {
	case guestdv1.SignalScope_SIGNAL_SCOPE_UNSPECIFIED, guestdv1.SignalScope_SIGNAL_SCOPE_GROUP:
		return sig, proc.ScopeGroup, nil
	case guestdv1.SignalScope_SIGNAL_SCOPE_PROCESS:
		return sig, proc.ScopeProcess, nil
	case guestdv1.SignalScope_SIGNAL_SCOPE_TREE:
		return sig, proc.ScopeTree, nil
	}
	return 0, 0, invalidRequest("scope: no scope %v", scope)
}
