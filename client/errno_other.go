//go:build !unix

package client

import "syscall"

// errnoOf knows no error numbers of Linux here; Error.Symbol has the name.
func errnoOf(string) syscall.Errno { return 0 }
