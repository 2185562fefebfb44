//go:build linux

package guestnet

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// tcpListener is a TCP listener that outlives a want of the kernel's memory.
type tcpListener struct{ *net.TCPListener }

// Accept returns a *net.TCPConn.
func (l tcpListener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if err != nil {
		return nil, acceptError(l.Addr(), err)
	}
	return conn, nil
}

// Accept returns a *net.UnixConn.
func (l *unixListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, acceptError(l.Addr(), err)
	}
	return conn, nil
}

// acceptError is an error of Accept, which is temporary, as package net has it,
// also where the kernel lacks memory or, ENOSPC, does not let the agent wait for
// one more descriptor (epoll(7), max_user_watches): the workload may have taken
// the last of both, and gives them back.
func acceptError(at net.Addr, err error) error {
	for _, errno := range []unix.Errno{unix.ENOMEM, unix.ENOBUFS, unix.ENOSPC} {
		if errors.Is(err, errno) {
			return &net.OpError{Op: "accept", Net: at.Network(), Addr: at, Err: shortage{errno}}
		}
	}
	return err
}

// shortage is an errno that passes.
type shortage struct{ unix.Errno }

// Temporary is what [net.OpError] asks its cause.
func (shortage) Temporary() bool { return true }

// Unwrap is the errno.
func (s shortage) Unwrap() error { return s.Errno }
