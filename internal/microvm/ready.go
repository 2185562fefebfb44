//go:build linux

package microvm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pollInterval = 10 * time.Millisecond

	// probeLimit bounds one attempt.
	probeLimit = 2 * time.Second
)

// waitReady returns when the guest accepts a connection on the ready port.
//
// It tries only after PID 1 has started the agent: vhost-device-vsock was seen
// to go silent for good after connections for a guest whose driver was not up.
func (vm *VM) waitReady(ctx context.Context) error {
	select {
	case <-vm.console.started:
	case <-vm.console.stuck:
		return errNoTimer
	case <-vm.qemu.done:
		return vm.guestEnded()
	case <-ctx.Done():
		return ctx.Err()
	}
	return poll(ctx, func(ctx context.Context) (bool, error) {
		select {
		case <-vm.qemu.done:
			return false, vm.guestEnded()
		default:
		}
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		if vm.hybrid == "" {
			return probeKernel(vm.cid, vm.cfg.ReadyPort) == nil, nil
		}
		return probeHybrid(ctx, vm.hybrid, vm.cfg.ReadyPort) == nil, nil
	})
}

// guestEnded is the error of waiting for a guest that is no more.
func (vm *VM) guestEnded() error {
	return fmt.Errorf("%w (QEMU: %v)", ErrGuestEnded, vm.qemu.cmd.ProcessState)
}

// poll calls try until it says true or fails. The first call is at once.
func poll(ctx context.Context, try func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if done, err := try(ctx); done || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probeHybrid opens and closes a connection through a hybrid socket.
func probeHybrid(ctx context.Context, path string, port uint32) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return err
	}
	// Over-reading does no harm: nothing of this connection is used.
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(reply, "OK ") {
		return errors.New("unexpected reply")
	}
	return nil
}

// probeKernel opens and closes a connection through the kernel's vhost-vsock,
// whose own limit for connecting is 2 s.
func probeKernel(cid, port uint32) error {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port})
}
