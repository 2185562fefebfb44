//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// idlePeriod is how long an idle agent is watched.
const idlePeriod = 60 * time.Second

// idleWakeups is P17, with a process and a shell over SSH.
func idleWakeups(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	process, err := a.Start(ctx, client.Spec{Args: []string{"sleep", "100000"}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = process.Kill(context.WithoutCancel(ctx)) }()
	shell, err := a.openShell(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = shell.Close() }()
	// What the agent does right after its start (the runtime's background work
	// among it) is not idling.
	if err := pause(ctx, 5*time.Second); err != nil {
		return nil, err
	}

	wakeups, err := wakeupsOf(a.pid())
	if err != nil {
		return nil, err
	}
	written, err := watchPages(a.pid())
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, idlePeriod); err != nil {
		return nil, err
	}
	after, err := wakeupsOf(a.pid())
	if err != nil {
		return nil, err
	}
	wakeups = after - wakeups
	rows := []row{{
		id: "P17", what: fmt.Sprintf("wake-ups of the agent in %v of idling, a process alive and a shell open over SSH", idlePeriod),
		against: "a sleeping process: 0", goal: "≤ 2", result: fmt.Sprint(wakeups), met: wakeups <= 2,
		note: "voluntary and involuntary context switches of all its threads",
	}}
	pages, how, err := written()
	if err != nil {
		return nil, err
	}
	return append(rows, row{
		id: "P17", what: "pages that it dirtied meanwhile", against: "a sleeping process: 0", goal: "≤ 16",
		result: fmt.Sprint(pages), met: pages <= 16, note: how,
	}), nil
}

// openShell opens a shell on a terminal. The caller closes the connection.
func (a *agent) openShell(ctx context.Context) (*ssh.Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		return vsock.Dial(ctx, vsock.Addr{Transport: vsock.Unix, Path: a.ssh})
	}
	c, err := a.DialSSH(ctx, dial, client.Grant{})
	if err != nil {
		return nil, err
	}
	s, err := c.NewSession()
	if err == nil {
		err = s.RequestPty("xterm", 24, 80, nil)
	}
	if err == nil {
		err = s.Shell()
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// wakeupsOf adds up the context switches of every thread.
func wakeupsOf(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("threads of %d: %w", pid, errors.Join(err, os.ErrNotExist))
	}
	var sum int64
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(status)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "voluntary_ctxt_switches") {
				n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n
			}
		}
	}
	return sum, nil
}
