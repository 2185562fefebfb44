package accept_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/accept"
)

// What is short comes back; a listener that ended for it would be missed for as
// long as whoever asked for it is there.
func TestIsTemporary(t *testing.T) {
	for errno, want := range map[syscall.Errno]bool{
		syscall.ENOMEM: true, syscall.ENOBUFS: true, syscall.ENOSPC: true,
		syscall.EMFILE: true, syscall.ENFILE: true,
		syscall.EBADF: false, syscall.EINVAL: false, syscall.EOPNOTSUPP: false,
	} {
		err := fmt.Errorf("listener: %w", &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)})
		if got := accept.IsTemporary(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	for _, err := range []error{nil, net.ErrClosed, errors.New("lost")} {
		if accept.IsTemporary(err) {
			t.Errorf("%v is temporary", err)
		}
	}
}
