//go:build linux

package guestnet

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What is short comes back; a listener that ended for it would be missed for as
// long as whoever asked for it is there.
func TestAcceptErrorOfAShortagePasses(t *testing.T) {
	at := &net.TCPAddr{Port: 1}
	accept := func(errno unix.Errno) error {
		return acceptError(at, &net.OpError{Op: "accept", Net: "tcp", Addr: at, Err: os.NewSyscallError("accept4", errno)})
	}
	for _, errno := range []unix.Errno{unix.ENOMEM, unix.ENOBUFS, unix.ENOSPC, unix.EMFILE, unix.ENFILE} {
		err := accept(errno)
		if op, ok := errors.AsType[*net.OpError](err); !ok || !op.Temporary() || !errors.Is(err, errno) {
			t.Errorf("%v would end a listener", err)
		}
	}
	for _, errno := range []unix.Errno{unix.EBADF, unix.EINVAL} {
		err := accept(errno)
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Temporary() {
			t.Errorf("%v would never end a listener", err)
		}
	}
}
