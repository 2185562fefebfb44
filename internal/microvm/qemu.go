//go:build linux

package microvm

import (
	"fmt"
	"strings"
)

// kernelCmdline is what every guest boots with. reboot=t is a triple fault, the
// one reset that a microvm has, and -no-reboot makes it QEMU's end. The log
// level lets through what PID 1 logs, which Start waits for.
const kernelCmdline = "console=ttyS0 reboot=t panic=-1 loglevel=6 random.trust_cpu=on"

// qemuArgs returns the arguments for a guest whose vsock device is reached
// through the vhost-user socket, or is the kernel's where socket is "".
func qemuArgs(cfg Config, a assets, initramfs, socket string, cid uint32) []string {
	machine := "microvm,acpi=on,pit=on,pic=on,rtc=on"
	memory := fmt.Sprintf("%dM", cfg.Memory)
	var vsock []string
	if socket != "" {
		// The device process reads and writes the guest's memory.
		machine += ",memory-backend=mem0"
		vsock = []string{
			"-object", "memory-backend-memfd,id=mem0,share=on,size=" + memory,
			"-chardev", "socket,id=vsock0,reconnect=0,path=" + socket,
			"-device", "vhost-user-vsock-device,chardev=vsock0",
		}
	} else {
		vsock = []string{"-device", fmt.Sprintf("vhost-vsock-device,guest-cid=%d", cid)}
	}
	args := []string{
		"-M", machine, "-m", memory, "-smp", fmt.Sprint(cfg.CPUs),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", a.kernel, "-initrd", initramfs, "-append", cfg.commandLine(a.accel),
	}
	if a.accel == KVM {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", "tcg,thread=multi", "-cpu", "max")
	}
	return append(args, vsock...)
}

func (cfg Config) commandLine(accel Acceleration) string {
	parts := []string{kernelCmdline}
	if khz := tscKHz(); khz > 0 && accel == TCG {
		// With several emulated processors the kernel takes the counter for
		// unstable and falls back to a clock of 4 ms steps that loses time on a
		// busy machine. It is the host's counter, so it can be relied upon.
		parts = append(parts, fmt.Sprintf("tsc_early_khz=%d tsc=reliable", khz))
	}
	if loaded := cfg.loadedModules(); len(loaded) > 0 {
		parts = append(parts, "guestd.modules="+strings.Join(loaded, ","))
	}
	if cfg.Cmdline != "" {
		parts = append(parts, cfg.Cmdline)
	}
	return strings.Join(parts, " ")
}
