//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// binarySize is P11.
func binarySize(_ context.Context, b *bench) ([]row, error) {
	info, err := os.Stat(b.guestd)
	if err != nil {
		return nil, err
	}
	return []row{{
		id: "P11", what: "static guestd binary", against: "–", goal: "≤ 9.0 MB",
		result: fmt.Sprintf("%.2f MB", float64(info.Size())/1e6), met: info.Size() <= 9_000_000,
		note: "a bare gRPC server is 6.8 MB of it",
	}}, nil
}

// idleMemory is P12: an agent that has answered one call and then rests.
func idleMemory(ctx context.Context, b *bench) ([]row, error) {
	a, err := b.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	resident, err1 := kilobytes(a.pid(), "VmRSS")
	anonymous, err2 := kilobytes(a.pid(), "RssAnon")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return []row{
		{
			id: "P12", what: "resident memory, idle", against: "–", goal: "≤ 10 MB", result: megabytes(resident), met: resident*1024 <= 10_000_000,
			note: "all but the anonymous part is pages of the binary, which the kernel maps sixteen and more at a time",
		},
		{id: "P12", what: "anonymous memory, idle", against: "–", goal: "≤ 2.5 MB", result: megabytes(anonymous), met: anonymous*1024 <= 2_500_000},
	}, nil
}

// startUp is P13.
func startUp(ctx context.Context, b *bench) ([]row, error) {
	empty, err := b.buildEmpty(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "start")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	r, err := batches(10, 5, func() (time.Duration, error) {
		cmd := exec.CommandContext(ctx, b.guestd, "serve", "--listen", "unix:"+socket, "--log-level", "error")
		start := time.Now()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		err := untilAccepting(socket)
		took := time.Since(start)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.Remove(socket)
		return took, err
	}, func() (time.Duration, error) {
		return clock(func() error { return exec.CommandContext(ctx, empty).Run() })
	})
	if err != nil {
		return nil, err
	}
	return []row{{
		id: "P13", what: "start of the binary until it accepts", against: "an empty Go program, start to end", goal: "≤ 4×",
		result: r.String(), met: r.median <= 4,
		note: fmt.Sprintf("%v against %v; one listener, without SSH", r.ours.Round(10*time.Microsecond), r.theirs.Round(10*time.Microsecond)),
	}}, nil
}

// untilAccepting tries every 100 µs: there is nobody who could tell.
func untilAccepting(socket string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// buildEmpty builds a Go program that does nothing, with our flags.
func (b *bench) buildEmpty(ctx context.Context) (string, error) {
	dir := filepath.Join(b.dir, "empty")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "empty")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build an empty program: %w\n%s", err, out)
	}
	return binary, nil
}
