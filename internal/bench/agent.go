//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/vsock"
)

// agent is a running `guestd serve` on unix sockets, with a client.
type agent struct {
	*client.Client
	cmd    *exec.Cmd
	socket string
	ssh    string // the SSH server's socket
	dir    string
	log    bytes.Buffer
}

// startAgent starts a fresh agent and waits until it answers. The caller calls
// stop.
func (b *bench) startAgent(ctx context.Context) (*agent, error) {
	dir, err := os.MkdirTemp(b.dir, "agent")
	if err != nil {
		return nil, err
	}
	a := &agent{dir: dir, socket: filepath.Join(dir, "s"), ssh: filepath.Join(dir, "ssh")}
	a.cmd = exec.Command(b.guestd, "serve", "--listen", "unix:"+a.socket, "--ssh", "unix:"+a.ssh)
	a.cmd.Stderr = &a.log
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	a.Client, err = client.New(func(ctx context.Context) (net.Conn, error) {
		return vsock.Dial(ctx, vsock.Addr{Transport: vsock.Unix, Path: a.socket})
	}, client.Config{Name: "unix:" + a.socket})
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		err = a.Ready(ctx)
	}
	if err != nil {
		a.stop()
		return nil, fmt.Errorf("start %s: %w\n%s", b.guestd, err, a.log.String())
	}
	return a, nil
}

func (a *agent) stop() {
	if a.Client != nil {
		a.Close()
	}
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	_ = a.cmd.Wait()
	os.RemoveAll(a.dir)
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

// kilobytes reads a field of /proc/PID/status, such as VmHWM.
func kilobytes(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// cpuTime is the processor time of a process and of the children that it has
// waited for (proc_pid_stat(5), utime to cstime).
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, cstime, tick = 11, 14, time.Second / 100
	var ticks int64
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// resetPeak makes VmHWM start over (proc(5), clear_refs).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func megabytes(kb int64) string { return fmt.Sprintf("%.1f MB", float64(kb)*1024/1e6) }
