//go:build linux

package proc

import (
	"os"
	"time"
)

// pollable makes a file of a non-blocking descriptor, which is the file's from
// then on. Where the kernel waits for no more descriptors the error is
// ErrNoPoll, and fd is closed: os.NewFile keeps quiet about that, and every
// read of its file that has to wait fails.
func pollable(fd int, name string) (*os.File, error) {
	f := os.NewFile(uintptr(fd), name)
	if f.SetDeadline(time.Time{}) != nil {
		_ = f.Close()
		return nil, ErrNoPoll
	}
	return f, nil
}
