//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// canPassConnections says that ssh-proxy --fdpass works here.
const canPassConnections = true

// passConnection gives a connection away over a unix socket, as ssh_config(5)
// has it for ProxyUseFdpass. The caller's own is to be closed.
func passConnection(socket *os.File, conn syscall.Conn) error {
	to, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	passed, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = passed.Control(func(fd uintptr) {
		rights := syscall.UnixRights(int(fd))
		if err := to.Control(func(socket uintptr) {
			// Rights want a byte to come with. There is room: it is the first.
			sendErr = syscall.Sendmsg(int(socket), []byte{0}, rights, nil, 0)
		}); err != nil {
			sendErr = err
		}
	})
	if err == nil {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("pass the connection to standard output: %w", err)
	}
	return nil
}
