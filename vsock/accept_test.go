package vsock

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestAcceptErrorOfAShortagePasses(t *testing.T) {
	addr := Addr{Transport: Unix, Path: "/run/a.sock"}
	for _, errno := range []syscall.Errno{
		syscall.ENOMEM, syscall.ENOBUFS, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE,
	} {
		for _, below := range []error{errno, os.NewSyscallError("accept4", errno), &net.OpError{Op: "accept", Err: errno}} {
			err := acceptError(addr, below)
			// What gRPC asks: the error itself, not what it wraps.
			temporary, ok := err.(interface{ Temporary() bool })
			if !ok || !temporary.Temporary() {
				t.Errorf("%v (%T) would end a server", err, below)
			}
			if !errors.Is(err, errno) {
				t.Errorf("%v is not %v", err, errno)
			}
		}
	}
	for _, errno := range []syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		err := acceptError(addr, os.NewSyscallError("accept4", errno))
		if temporary, ok := errors.AsType[*net.OpError](err); !ok || temporary.Temporary() {
			t.Errorf("%v would never end a server", err)
		}
	}
}
