//go:build unix

package client

import "syscall"

// oNoFollow makes opening a symbolic link an error.
const oNoFollow = syscall.O_NOFOLLOW
