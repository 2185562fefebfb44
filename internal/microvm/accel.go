//go:build linux

package microvm

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Acceleration is a way of running a guest, with the vsock device that belongs
// to it.
type Acceleration string

const (
	// KVM uses the processor's virtualization and the kernel's vhost-vsock.
	KVM Acceleration = "kvm"
	// TCG emulates the processor, with vhost-device-vsock as vsock device.
	TCG Acceleration = "tcg"
)

// String describes the way for people.
func (a Acceleration) String() string {
	if a == KVM {
		return "QEMU with KVM, vsock by the kernel (vhost-vsock)"
	}
	return "QEMU with emulation (TCG), vsock by vhost-device-vsock"
}

// Choose returns the way of running that fits this machine. GUESTD_VM_ACCEL
// ("kvm" or "tcg") overrides it.
//
// A /dev/kvm that opens may still hang on an ordinary kernel when this machine
// is itself a guest, so KVM is chosen only without a hypervisor underneath.
func Choose() Acceleration {
	switch Acceleration(os.Getenv("GUESTD_VM_ACCEL")) {
	case KVM:
		return KVM
	case TCG:
		return TCG
	}
	for _, device := range []string{"/dev/kvm", "/dev/vhost-vsock"} {
		if unix.Access(device, unix.R_OK|unix.W_OK) != nil {
			return TCG
		}
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || isVirtual(string(cpuinfo)) {
		return TCG
	}
	return KVM
}

// isVirtual looks for the flag by which a processor says that it is virtual.
func isVirtual(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		key, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for flag := range strings.FieldsSeq(flags) {
			if flag == "hypervisor" {
				return true
			}
		}
		return false
	}
	return true // not a processor that we know
}
