//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	mdvsock "github.com/mdlayher/vsock"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/vsock"
)

// doors are the listeners of an agent.
type doors struct {
	listeners []*vsock.HostListener
}

// open listens on every address, or on none. It is called once, before anybody
// asks for refused.
func (d *doors) open(ctx context.Context, c config, log *slog.Logger) error {
	options := vsock.ListenConfig{WaitForDevice: true, Logger: log}
	policy := vsock.Policy{RequirePrivilegedPort: c.RequirePrivilegedPort, Logger: log}
	for _, text := range c.Listen {
		address, err := vsock.ParseAddr(text)
		if err != nil {
			return err
		}
		l, err := options.Listen(ctx, address)
		if err != nil {
			for _, open := range d.listeners {
				open.Close()
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w: another agent serves there", err)
			}
			return err
		}
		d.listeners = append(d.listeners, vsock.HostOnly(l, policy))
	}
	log.Info("serving", "addresses", c.Listen, "version", buildVersion())
	return nil
}

// serve serves on every listener until ctx is done or one of them fails, then
// drains the running calls. It closes the listeners.
func (d *doors) serve(ctx context.Context, server *agent.Server, log *slog.Logger) error {
	ended := make(chan error, len(d.listeners))
	for _, l := range d.listeners {
		go func() { ended <- server.Serve(l) }()
	}
	var failure error
	running := len(d.listeners)
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case failure = <-ended:
		running--
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainCalls)
	defer cancel()
	if err := server.Shutdown(draining); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		failure = errors.Join(failure, err)
	}
	for range running {
		if err := <-ended; !errors.Is(err, agent.ErrServerClosed) {
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

// refused is how many connections were refused because they are not the
// host's.
func (d *doors) refused() (sum uint64) {
	for _, l := range d.listeners {
		sum += l.Refused()
	}
	return sum
}

// localCID is the machine's vsock context id, which may change with a restore.
func localCID() (uint32, bool) {
	cid, err := mdvsock.ContextID()
	return cid, err == nil
}
