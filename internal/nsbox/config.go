//go:build linux

package nsbox

import "log/slog"

// PortAgent is the port on which guestd serves gRPC.
const PortAgent = 1024

// Config describes one box. Guestd is required; every other field has a useful
// zero value.
type Config struct {
	// Guestd is the path of the static binary that becomes PID 1.
	Guestd string

	// Args are given to `guestd serve`, after the --listen for PortAgent.
	Args []string

	// Hostname is the box's host name. Empty means "box".
	Hostname string

	// Dir holds the sockets and the mount point of the box's root. It must
	// exist and its path should be short (a socket's path has at most 107
	// bytes). Empty means a temporary directory, which Stop and Kill remove.
	Dir string

	// Log gets what cannot be returned as an error. Nil discards. The guest's
	// own output is in [Box.Console].
	Log *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.Hostname == "" {
		cfg.Hostname = "box"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}
