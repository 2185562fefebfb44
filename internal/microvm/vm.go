//go:build linux

package microvm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long QEMU may take for an orderly exit.
const stopGrace = 5 * time.Second

// ErrGuestEnded is wrapped by Start's error if the guest ended before it was
// ready.
var ErrGuestEnded = errors.New("the guest ended")

// errNoTimer means that the guest hangs for want of a clock; see noTimer.
var errNoTimer = errors.New("the guest could not measure its timer: this machine is too busy")

// startTries is how often a guest is started that cannot measure its timer.
const startTries = 5

// VM is a running guest. Its methods may be called from several goroutines.
type VM struct {
	cfg     Config
	accel   Acceleration
	dir     string
	ownDir  bool
	cid     uint32
	hybrid  string // socket path; "" with the kernel's vhost-vsock
	console *console
	device  *process // nil with the kernel's vhost-vsock
	qemu    *process

	cleanup sync.Once
}

// Start boots a guest and returns when it accepts connections on
// cfg.ReadyPort. ctx bounds that wait only. The caller must Stop or Kill the
// VM; nothing of it survives this process in any case.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	cfg = cfg.withDefaults()
	a, err := findAssets()
	if err != nil {
		return nil, err
	}
	for range startTries {
		var vm *VM
		if vm, err = start(ctx, cfg, a); err == nil {
			return vm, nil
		}
		if !errors.Is(err, errNoTimer) {
			break
		}
		cfg.Log.Warn("starting the guest once more", "error", err)
	}
	return nil, fmt.Errorf("start microVM: %w", err)
}

func start(ctx context.Context, cfg Config, a assets) (*VM, error) {
	vm := &VM{cfg: cfg, accel: a.accel, dir: cfg.Dir, console: newConsole()}
	if vm.dir == "" {
		dir, err := os.MkdirTemp("", "guestd-vm-")
		if err != nil {
			return nil, err
		}
		vm.dir, vm.ownDir = dir, true
	}
	if err := vm.boot(ctx, a); err != nil {
		vm.Kill()
		return nil, err
	}
	return vm, nil
}

// boot starts the processes and waits for the guest. On error the caller
// kills what was started.
func (vm *VM) boot(ctx context.Context, a assets) error {
	initramfs := filepath.Join(vm.dir, "initramfs")
	if err := buildInitramfs(initramfs, vm.cfg, a); err != nil {
		return fmt.Errorf("build initramfs: %w", err)
	}
	var err error
	if vm.console.file, err = os.Create(filepath.Join(vm.dir, "console.log")); err != nil {
		return err
	}
	// Any number that no other guest of this host has: 0 to 2 are taken.
	vm.cid = 3 + rand.Uint32N(1<<30)
	socket := ""
	if a.accel == TCG {
		if socket, err = vm.startDevice(ctx, a.vsock); err != nil {
			return err
		}
	}
	args := qemuArgs(vm.cfg, a, initramfs, socket, vm.cid)
	vm.cfg.Log.Info("starting QEMU", "how", a.accel.String(), "args", args)
	if vm.qemu, err = startProcess(vm.console, a.qemu, args...); err != nil {
		return err
	}
	if err := vm.waitReady(ctx); err != nil {
		return fmt.Errorf("%w\nconsole:\n%s", err, vm.console.tail(60))
	}
	return nil
}

// startDevice starts the vsock device and returns the path of the socket on
// which it serves QEMU.
func (vm *VM) startDevice(ctx context.Context, program string) (socket string, err error) {
	vm.hybrid = filepath.Join(vm.dir, "vm.sock")
	socket = filepath.Join(vm.dir, "vhost.sock")
	spec := fmt.Sprintf("guest-cid=%d,uds-path=%s,socket=%s", vm.cid, vm.hybrid, socket)
	if vm.device, err = startProcess(vm.console, program, "--vm", spec); err != nil {
		return "", err
	}
	return socket, poll(ctx, func(context.Context) (bool, error) {
		select {
		case <-vm.device.done:
			return false, fmt.Errorf("vhost-device-vsock ended (%v)\n%s", vm.device.cmd.ProcessState, vm.console.tail(5))
		default:
		}
		_, err := os.Lstat(socket)
		return err == nil, nil
	})
}

// Addr returns the address of a vsock port of the guest, in the form that the
// package vsock dials.
func (vm *VM) Addr(port uint32) string {
	if vm.hybrid == "" {
		return fmt.Sprintf("vsock:%d:%d", vm.cid, port)
	}
	return fmt.Sprintf("hybrid:%s:%d", vm.hybrid, port)
}

// CID returns the guest's context id.
func (vm *VM) CID() uint32 { return vm.cid }

// GuestDialPath returns the path of the unix socket on which a host program
// has to listen for the guest's connections to CID 2 and the port. It is ""
// with the kernel's vhost-vsock, where one listens on AF_VSOCK instead.
func (vm *VM) GuestDialPath(port uint32) string {
	if vm.hybrid == "" {
		return ""
	}
	return fmt.Sprintf("%s_%d", vm.hybrid, port)
}

// Console returns the newest output of the guest's serial line, at least the
// last MiB of it, with LF for line ends. It stays readable after the end.
func (vm *VM) Console() string { return vm.console.String() }

// AccelDescription says for people how the guest runs.
func (vm *VM) AccelDescription() string { return vm.accel.String() }

// Pid returns QEMU's process id, for measurements.
func (vm *VM) Pid() int { return vm.qemu.cmd.Process.Pid }

// Wait waits for the guest to end by itself, by power-off or reboot, and
// removes what it leaves on this machine. The error is ctx's, or QEMU's if it
// ended badly.
func (vm *VM) Wait(ctx context.Context) error {
	select {
	case <-vm.qemu.done:
		vm.release()
		return vm.qemu.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pause stops the guest's processors until [VM.Resume], as a VMM does for a
// snapshot; connections are neither served nor closed. The guest's clocks go on,
// but for QEMU's own timers, so that it finds itself later all of a sudden.
//
// The monitor's "stop" is not used: it also stops the device, and after that
// vhost-device-vsock 0.3.0 was seen not to serve any connection any more.
func (vm *VM) Pause() { vm.qemu.signal(syscall.SIGSTOP) }

// Resume lets a paused guest go on.
func (vm *VM) Resume() { vm.qemu.signal(syscall.SIGCONT) }

// Stop ends the guest as if its plug were pulled, but lets QEMU exit in order;
// ctx shortens the wait for that. For an orderly end of the guest ask the agent
// in it, then Wait. It returns nil, also for a guest that has ended.
func (vm *VM) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	if vm.qemu != nil {
		vm.qemu.signal(syscall.SIGTERM)
		select {
		case <-vm.qemu.done:
		case <-ctx.Done():
		}
	}
	vm.Kill()
	return nil
}

// Kill ends the guest at once. It may be called any number of times.
func (vm *VM) Kill() {
	if vm.qemu != nil {
		vm.qemu.kill()
	}
	vm.release()
}

// release removes what a guest that has ended leaves.
func (vm *VM) release() {
	vm.cleanup.Do(func() {
		if vm.device != nil {
			vm.device.kill()
		}
		vm.console.close()
		for _, name := range []string{"vm.sock", "vhost.sock", "initramfs"} {
			os.Remove(filepath.Join(vm.dir, name))
		}
		if vm.ownDir {
			os.RemoveAll(vm.dir)
		}
	})
}
