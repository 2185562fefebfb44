//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"

	mdvsock "github.com/mdlayher/vsock"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/internal/parallel"
	"github.com/guestd/guestd/sshd"
	"github.com/guestd/guestd/vsock"
)

// doors are the listeners of an agent: gRPC for the host, SSH for people.
type doors struct {
	grpc []*vsock.HostListener
	ssh  []*vsock.HostListener
}

// A server is what serves a door: package agent's or package sshd's.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// open listens on every address. It is called once, before anybody asks for
// refused; the caller closes the doors, whatever it returns.
func (d *doors) open(ctx context.Context, c config, log *slog.Logger) error {
	for _, text := range c.Listen {
		l, err := listen(ctx, text, c, log)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w; choose another address with --listen", err)
		}
		if err != nil {
			return err
		}
		d.grpc = append(d.grpc, l)
	}
	addresses, chosen := c.ssh()
	for _, text := range addresses {
		l, err := listen(ctx, text, c, log)
		switch {
		case err == nil:
			d.ssh = append(d.ssh, l)
		case chosen && errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("%w; choose another address with --ssh, or --ssh %s", err, noSSH)
		case chosen:
			return err
		default:
			log.Warn("not serving SSH; see --ssh", "address", text, "error", err)
		}
	}
	return nil
}

// close closes the listeners. Closing twice does no harm.
func (d *doors) close() {
	for _, l := range slices.Concat(d.grpc, d.ssh) {
		l.Close()
	}
}

// listen listens for the host alone.
func listen(ctx context.Context, text string, c config, log *slog.Logger) (*vsock.HostListener, error) {
	address, err := vsock.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	options := vsock.ListenConfig{WaitForDevice: true, Logger: log}
	l, err := options.Listen(ctx, address)
	if err != nil {
		return nil, err
	}
	return vsock.HostOnly(l, vsock.Policy{RequirePrivilegedPort: c.RequirePrivilegedPort, Logger: log}), nil
}

// serve serves on every listener until ctx is done or one of them fails, then
// drains what is running. It closes the listeners.
func (d *doors) serve(ctx context.Context, grpc, ssh server, log *slog.Logger) error {
	log.Info("serving", "grpc", addresses(d.grpc), "ssh", addresses(d.ssh), "version", buildVersion())
	ended := make(chan error, len(d.grpc)+len(d.ssh))
	fitter := newFitter()
	for _, l := range d.grpc {
		go func() { ended <- grpc.Serve(fitter.Listener(l, parallel.Parallel)) }()
	}
	for _, l := range d.ssh {
		go func() { ended <- ssh.Serve(fitter.Listener(l, parallel.Serial)) }()
	}
	var failure error
	running := cap(ended)
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case failure = <-ended:
		running--
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainCalls)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- ssh.Shutdown(draining) }()
	for _, err := range []error{grpc.Shutdown(draining), <-drained} {
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			failure = errors.Join(failure, err)
		}
	}
	for range running {
		err := <-ended
		if !errors.Is(err, agent.ErrServerClosed) && !errors.Is(err, sshd.ErrServerClosed) {
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

// addresses are those of the listeners, with the port that one has been given.
func addresses(listeners []*vsock.HostListener) []string {
	texts := make([]string, len(listeners))
	for i, l := range listeners {
		texts[i] = l.Addr().String()
	}
	return texts
}

// refused is how many connections were refused because they are not the
// host's.
func (d *doors) refused() (sum uint64) {
	for _, l := range slices.Concat(d.grpc, d.ssh) {
		sum += l.Refused()
	}
	return sum
}

// localCID is the machine's vsock context id, which may change with a restore.
func localCID() (uint32, bool) {
	cid, err := mdvsock.ContextID()
	return cid, err == nil
}
