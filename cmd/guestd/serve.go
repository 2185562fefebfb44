//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/guestd/guestd/agent"
	"github.com/guestd/guestd/internal/boot"
	"github.com/guestd/guestd/proc"
)

const (
	// drainCalls is how long running calls may go on after SIGTERM. Exec
	// streams of processes that do not end would otherwise hold it for ever.
	drainCalls = 3 * time.Second
	// closeDoors bounds the whole end of the doors. A call may be in a system
	// call that does not return: a file system that nobody serves any more.
	closeDoors = drainCalls + 5*time.Second
	// endProcesses bounds the end of the processes after that: it has to be
	// over before an init loses patience (systemd: 90 s).
	endProcesses = 20 * time.Second
)

// serve is `guestd serve`. It returns nil after a clean end by SIGTERM or
// SIGINT.
func serve(args []string, stdout, stderr io.Writer) error {
	// The kernel gives a signal for the process to its first thread, which this
	// is, and to no other while that one hangs in a system call: then SIGTERM would
	// be lost. Locked to this goroutine, which only waits, it makes no calls.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := parseConfig(args, stdout)
	if err != nil {
		return err
	}
	log := newLog(stderr, slog.Level(c.LogLevel))
	startClean(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// A host that is gone closes our stderr too; the agent stays. The signals are
	// caught instead of ignored, because only that ends with exec: package proc
	// would otherwise have to repair every child.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP)
	protectFromOOM(log)

	limitMemory(c.outputTotal())

	processes, err := proc.NewTable(proc.Config{
		Logger:    log,
		RingSize:  c.OutputBufferBytes,
		RingTotal: c.outputTotal(),
		Retention: time.Duration(c.Retention),
		BootID:    agent.BootID(),
		Cgroup:    workloadCgroup(),
		Shim:      []string{"/proc/self/exe", shimCommand},
	})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- serveDoors(ctx, c, processes, log) }()
	select {
	case err = <-served:
	case <-later(ctx, closeDoors):
		err = errHangs
	}
	ending, cancel := context.WithTimeout(context.Background(), endProcesses)
	defer cancel()
	return errors.Join(err, processes.Shutdown(ending))
}

// errHangs is why an agent ends although not everything in it has.
var errHangs = errors.New("gave up waiting for calls to end; a file system may not answer")

// later returns what is closed d after ctx is done.
func later(ctx context.Context, d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { close(over) }) })
	return over
}

// serveDoors opens the doors to the processes and serves them until ctx is
// done.
func serveDoors(ctx context.Context, c config, processes *proc.Table, log *slog.Logger) error {
	var doors doors
	defer doors.close()
	if err := doors.open(ctx, c, log); err != nil {
		return err
	}
	s, err := newServers(c, &doors, processes, log) //nolint:contextcheck // servers end by Close, not with a context
	if err != nil {
		return err
	}
	err = doors.serve(ctx, s.host, s.people, log)
	return errors.Join(err, s.close())
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
