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

// shortageError says that the kernel is short of memory or, with ENOSPC, that it
// lets this user wait for no more descriptors (epoll(7), max_user_watches), of
// which the workload may have taken the last. Either passes. Without this type a
// server that retries only what the standard library calls temporary would give
// up its listener.
type shortageError struct{ syscall.Errno }

// Temporary tells a server to accept again in a while.
func (shortageError) Temporary() bool { return true }

// Unwrap is the errno.
func (e shortageError) Unwrap() error { return e.Errno }
