//go:build linux

package guestnet

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// backlogWait is how long to wait before a listener whose queue was full is
// tried again; it doubles up to maxBacklogWait.
const (
	backlogWait    = time.Millisecond
	maxBacklogWait = 50 * time.Millisecond
)

// dialUnix connects to a unix socket with the user's rights. Where the queue of
// the listener is full, which the kernel calls EAGAIN, it waits as a blocking
// connect(2) would: for as long as ctx lets it.
func (d *Dialer) dialUnix(ctx context.Context, address string) (net.Conn, error) {
	if err := checkUnix(address); err != nil {
		return nil, err
	}
	var full error // of the last attempt
	for wait := backlogWait; ; wait = min(2*wait, maxBacklogWait) {
		if ctx.Err() != nil {
			// What kept the caller waiting says more than that it waited.
			return nil, opError("dial", address, errors.Join(context.Cause(ctx), full))
		}
		var conn net.Conn
		if conn, full = d.connectUnix(address); !errors.Is(full, unix.EAGAIN) {
			return conn, opError("dial", address, full)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// connectUnix makes one attempt, which never blocks.
func (d *Dialer) connectUnix(address string) (net.Conn, error) {
	var fd int
	err := as(d.User, func() (err error) {
		if fd, err = newUnixSocket(); err != nil {
			return err
		}
		err = sockaddr(address, func(sa unix.Sockaddr) error { return connect(fd, sa) })
		if err != nil {
			_ = unix.Close(fd)
		}
		return os.NewSyscallError("connect", err)
	})
	if err != nil {
		return nil, err
	}
	return fileConn(fd)
}

// connect is connect(2), again when a signal came in between.
func connect(fd int, sa unix.Sockaddr) error {
	for {
		if err := unix.Connect(fd, sa); err != unix.EINTR {
			return err
		}
	}
}

// fileConn makes a net.Conn of a connected socket, and owns it.
func fileConn(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "unix")
	defer file.Close()
	return net.FileConn(file)
}
