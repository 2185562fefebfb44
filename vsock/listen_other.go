//go:build !linux

package vsock

import (
	"errors"
	"fmt"
	"net"
	"runtime"
)

func vmSupported() error {
	return fmt.Errorf("no AF_VSOCK on %s (a VMM's socket is hybrid:PATH:PORT): %w", runtime.GOOS, errors.ErrUnsupported)
}

func listenVM(Addr, int) (net.Listener, error) { return nil, vmSupported() }
