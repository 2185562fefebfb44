//go:build linux

package boot

import (
	"log/slog"
	"os"

	"github.com/guestd/guestd/internal/priolog"
)

// defaultLog is the kernel's log in a machine, where it carries the kernel's
// own time stamps and ends on every console, and stderr in a container.
func defaultLog(container bool) *slog.Logger {
	if !container {
		if kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
			// As notices, which a kernel that is told to be quiet still shows.
			return slog.New(priolog.NewHandler(kmsg, priolog.Options{Prefix: "guestd: ", Info: priolog.PriorityNotice}))
		}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}
