//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

const (
	execRounds = 10
	execBatch  = 50
)

// execLatency is P1.
func execLatency(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	r, err := batches(execRounds, execBatch, remoteTrue(ctx, a), localTrue)
	if err != nil {
		return nil, err
	}
	return []row{{
		id: "P1", what: "exec of true, request to exit", against: "os/exec of the same program", goal: "≤ 1.30×",
		result: r.String(), met: r.median <= 1.3,
		note: fmt.Sprintf("%v against %v; a bare gRPC server that calls os/exec is at 1.4 to 1.5. The rest are more wake-ups of threads, and a cgroup for each process",
			r.ours.Round(time.Microsecond), r.theirs.Round(time.Microsecond)),
	}}, nil
}

func remoteTrue(ctx context.Context, a *agent) timed {
	return func() (time.Duration, error) {
		return clock(func() error { return a.Command("/bin/true").Run(ctx) })
	}
}

func localTrue() (time.Duration, error) {
	return clock(func() error { return exec.Command("/bin/true").Run() })
}
