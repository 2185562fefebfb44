//go:build !unix

package main

import (
	"os"
	"syscall"

	"github.com/guestd/guestd/client"
)

func ignoreBrokenPipes() {}

// resizeSignal is one that never comes: this system has none for it.
const resizeSignal = syscall.Signal(-1)

func forwarded() map[os.Signal]client.Signal {
	return map[os.Signal]client.Signal{os.Interrupt: client.SIGINT, syscall.SIGTERM: client.SIGTERM}
}
