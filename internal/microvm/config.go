//go:build linux

package microvm

import (
	"log/slog"
)

// Ports of guestd on vsock, as a reminder for callers of [VM.Addr].
const (
	PortAgent = 1024
	PortSSH   = 22
)

// Config describes one VM. Guestd is required; every other field has a useful
// zero value.
type Config struct {
	// Guestd is the path of the static binary that becomes /init and
	// /usr/bin/guestd.
	Guestd string

	// Memory is the guest's memory in MiB. Zero means 1024.
	Memory int

	// CPUs is the number of virtual CPUs. Zero means 2.
	CPUs int

	// Modules are kernel modules that the initramfs contains, with what they
	// depend on, in addition to virtio and vsock. Those whose name ends with
	// "!" are loaded at boot as well (guestd.modules=).
	Modules []string

	// ExtraFiles maps guest paths to files of this machine, which are copied
	// with their permissions.
	ExtraFiles map[string]string

	// Cmdline is appended to the kernel's command line. It must leave PID 1's
	// notices on the console (loglevel 6 or more): Start waits for them.
	Cmdline string

	// Dir holds sockets, initramfs and console log. It must exist and its path
	// should be short (a socket's path has at most 107 bytes). Empty means a
	// temporary directory, which Stop and Kill remove.
	Dir string

	// ReadyPort is the vsock port that has to accept a connection before Start
	// returns. Zero means PortAgent.
	ReadyPort uint32

	// Log gets what the harness does. Nil discards. The guest's own output is
	// in [VM.Console].
	Log *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.Memory == 0 {
		cfg.Memory = 1024
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 2
	}
	if cfg.ReadyPort == 0 {
		cfg.ReadyPort = PortAgent
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}
