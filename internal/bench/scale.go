//go:build linux

package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/guestd/guestd/client"
)

const (
	aliveAtOnce  = 1000
	spawnedTotal = 20_000
	spawnWorkers = 16
)

// manyProcesses is P16.
func manyProcesses(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	before, err := a.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	if err := resetPeak(a.pid()); err != nil {
		return nil, err
	}
	if err := sleepers(ctx, a, aliveAtOnce); err != nil {
		return nil, err
	}
	lost, err := spawnAndWait(ctx, a, spawnedTotal)
	if err != nil {
		return nil, err
	}
	if err := endAll(ctx, a); err != nil {
		return nil, err
	}
	peak, err := kilobytes(a.pid(), "VmHWM")
	if err != nil {
		return nil, err
	}
	after, err := a.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	grown := int(after.Goroutines) - int(before.Goroutines)
	return []row{
		{
			id: "P16", what: fmt.Sprintf("%d processes spawned and waited for with %d alive: exits lost", spawnedTotal, aliveAtOnce),
			against: "–", goal: "0", result: fmt.Sprint(lost), met: lost == 0,
		},
		{id: "P16", what: "peak resident memory of the agent then", against: "–", goal: "≤ 64 MB", result: megabytes(peak), met: peak*1024 <= 64_000_000},
		{id: "P16", what: "goroutines more than before, afterwards", against: "–", goal: "≤ 5", result: fmt.Sprint(grown), met: grown <= 5},
	}, nil
}

// sleepers starts n processes that stay.
func sleepers(ctx context.Context, a *agent, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(spawnWorkers)
	for range n {
		group.Go(func() error {
			_, err := a.Start(ctx, client.Spec{Args: []string{"sleep", "100000"}})
			return err
		})
	}
	return group.Wait()
}

// spawnAndWait runs n short processes with an exit code each and counts those
// whose code did not come back.
func spawnAndWait(ctx context.Context, a *agent, n int) (lost int64, err error) {
	var wrong atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(spawnWorkers)
	for range n {
		group.Go(func() error {
			if err := a.Command("/bin/true").Run(ctx); err != nil {
				wrong.Add(1)
			}
			return ctx.Err()
		})
	}
	err = group.Wait()
	return wrong.Load(), err
}

// endAll kills every process that is alive and waits for its end.
func endAll(ctx context.Context, a *agent) error {
	list, err := a.Processes(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(spawnWorkers)
	for _, info := range list {
		if info.Exit != nil {
			continue
		}
		group.Go(func() error {
			p := a.Process(info.ID)
			if err := p.Kill(ctx); err != nil {
				return err
			}
			_, err := p.Wait(ctx)
			return err
		})
	}
	return group.Wait()
}
