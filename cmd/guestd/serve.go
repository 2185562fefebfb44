//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/boot"
	"github.com/guestd/guestd/proc"
	"github.com/guestd/guestd/vsock"
)

const (
	// drainCalls is how long running calls may go on after SIGTERM. Exec
	// streams of processes that do not end would otherwise hold it for ever.
	drainCalls = 3 * time.Second
	// endProcesses bounds the end of the processes after that: it has to be
	// over before an init loses patience (systemd: 90 s).
	endProcesses = 20 * time.Second
)

// serve is `guestd serve`. It returns nil after a clean end by SIGTERM or
// SIGINT.
func serve(args []string, stderr io.Writer) error {
	c, err := parseConfig(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A host that is gone closes our stderr too; the agent stays.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	protectFromOOM(log)

	processes, err := proc.NewTable(proc.Config{
		Logger:    log,
		RingSize:  c.OutputBufferBytes,
		RingTotal: c.OutputTotalBytes,
		Retention: time.Duration(c.Retention),
		BootID:    bootID(),
		Cgroup:    workloadCgroup(),
		Shim:      []string{"/proc/self/exe", shimCommand},
	})
	if err != nil {
		return err
	}
	files, err := fsops.New(fsops.Config{Logger: log})
	if err != nil {
		return errors.Join(err, processes.Close())
	}
	server, err := agent.New(agent.Config{
		Logger:    log,
		Processes: processes,
		Files:     files,
		Version:   buildVersion(),
		Allow:     c.Allow,
	})
	if err != nil {
		return errors.Join(err, processes.Close())
	}
	err = serveAll(ctx, c, server, log)

	ending, cancel := context.WithTimeout(context.Background(), endProcesses)
	defer cancel()
	return errors.Join(err, server.Close(), processes.Shutdown(ending))
}

// serveAll serves on every address until ctx is done or one listener fails,
// then drains the running calls.
func serveAll(ctx context.Context, c config, server *agent.Server, log *slog.Logger) error {
	listeners, err := listenAll(ctx, c, log)
	if err != nil {
		return err
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	log.Info("serving", "addresses", c.Listen, "version", buildVersion())

	var failure error
	running := len(listeners)
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case failure = <-ended:
		running--
	}
	draining, cancel := context.WithTimeout(context.Background(), drainCalls)
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

// listenAll listens on every address, or on none.
func listenAll(ctx context.Context, c config, log *slog.Logger) ([]net.Listener, error) {
	options := vsock.ListenConfig{WaitForDevice: true, Logger: log}
	policy := vsock.Policy{RequirePrivilegedPort: c.RequirePrivilegedPort, Logger: log}
	var listeners []net.Listener
	for _, text := range c.Listen {
		address, err := vsock.ParseAddr(text)
		if err == nil {
			var l net.Listener
			if l, err = options.Listen(ctx, address); err == nil {
				listeners = append(listeners, vsock.HostOnly(l, policy))
				continue
			}
		}
		for _, l := range listeners {
			l.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: another agent serves there", err)
		}
		return nil, err
	}
	return listeners, nil
}

// bootID is the kernel's identity of this boot, which handles carry; empty
// without /proc, where package proc makes one up.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// workloadCgroup is the cgroup that our own PID 1 made for what the agent
// starts; empty under any other init, where package proc finds its own.
func workloadCgroup() string {
	if info, err := os.Stat(boot.WorkloadCgroup); os.Getppid() != 1 || err != nil || !info.IsDir() {
		return ""
	}
	return boot.WorkloadCgroup
}

// protectFromOOM asks the kernel to take any process of the workload before
// the agent. Package proc resets it for the children.
func protectFromOOM(log *slog.Logger) {
	const score = "-900"
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0); err != nil {
		log.Debug("not protected from the OOM killer", "error", err)
	}
}
