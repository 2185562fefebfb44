//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/guestd/guestd/client"
)

// ignoreBrokenPipes makes writes to a pipe that nobody reads fail, instead of
// killing guestctl: a program in the guest has to be told first.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// resizeSignal tells that the terminal's size changed.
const resizeSignal = syscall.SIGWINCH

// forwarded are the signals that are passed on to a program in the guest, by
// their names: numbers differ between systems.
func forwarded() map[os.Signal]client.Signal {
	return map[os.Signal]client.Signal{
		syscall.SIGINT:  client.SIGINT,
		syscall.SIGTERM: client.SIGTERM,
		syscall.SIGHUP:  client.SIGHUP,
		syscall.SIGQUIT: client.SIGQUIT,
		syscall.SIGUSR1: client.SIGUSR1,
		syscall.SIGUSR2: client.SIGUSR2,
	}
}
