// Package accept tells which errors of a listener pass.
package accept

import (
	"errors"
	"syscall"
)

// IsTemporary reports whether another Accept may succeed after err: what the
// standard library calls temporary, as being out of descriptors, and a want of
// the kernel's memory or, ENOSPC, of the descriptors that it lets one user wait
// for (epoll(7), max_user_watches). Others may have taken the last of these, and
// give them back. The caller pauses before it tries again.
func IsTemporary(err error) bool {
	for _, shortage := range []syscall.Errno{syscall.ENOMEM, syscall.ENOBUFS, syscall.ENOSPC} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	temporary, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && temporary.Temporary()
}
