package vsock

import (
	"errors"
	"syscall"
)

// acceptError is the error of a listener's Accept.
func acceptError(a Addr, err error) error {
	for _, shortage := range []syscall.Errno{syscall.ENOMEM, syscall.ENOBUFS, syscall.ENOSPC} {
		if errors.Is(err, shortage) {
			err = shortageError{shortage}
		}
	}
	return opError("accept", a, err)
}

// shortageError is a want of the kernel's memory or, ENOSPC, of the descriptors
// that it lets one user wait for (epoll(7), max_user_watches), of which the
// workload may have taken the last. It passes; servers that know only the
// errors which the standard library calls temporary would give their listener
// up for it.
type shortageError struct{ syscall.Errno }

// Temporary tells a server to accept again in a while.
func (shortageError) Temporary() bool { return true }

// Unwrap is the errno.
func (e shortageError) Unwrap() error { return e.Errno }
