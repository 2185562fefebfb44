//go:build linux

package agent

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	// Package os/signal keeps one goroutine from its first use on, which comes
	// with the first table where the tests were started with ignored signals.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}
