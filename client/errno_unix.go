//go:build unix

package client

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// errnoTable maps symbols to this system's numbers: ENOTEMPTY is 39 on Linux
// and 66 on Darwin, and the wire carries the symbol.
var errnoTable = sync.OnceValue(func() map[string]syscall.Errno {
	table := make(map[string]syscall.Errno)
	for n := syscall.Errno(1); n < 256; n++ {
		if name := unix.ErrnoName(n); name != "" {
			table[name] = n
		}
	}
	return table
})

// errnoOf returns the number behind a symbol; 0 if this system has none.
func errnoOf(symbol string) syscall.Errno { return errnoTable()[symbol] }
