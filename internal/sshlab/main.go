//go:build linux

// Sshlab is the laboratory in which stock SSH clients meet a server that
// listens on a unix socket. It is for tests and never part of a release.
//
//	sshlab connect SOCKET             a ProxyCommand: stdin and stdout are the connection
//	sshlab listen SOCKET PORTFILE     a TCP port of 127.0.0.1 for clients that have no ProxyCommand;
//	                                  its number is in PORTFILE once it listens
//	sshlab stock SOCKET SSHD CONFIG   serves SOCKET with a stock `sshd -i` for each connection
//	sshlab modpipe -wm SPEC           copies its input and changes a byte on the way
//	sshlab sshd [OPTION...]           takes sshd's place in OpenSSH's own tests (see shim.go)
//
// The shim is configured by its environment, since the tests choose its
// arguments:
//
//	SSHLAB_SOCKET   the server's socket
//	SSHLAB_GRANT    a shell command that lets a public key in, which it reads from
//	                its standard input in the form of an authorized_keys file
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// errUsage says that the arguments make no sense.
var errUsage = errors.New("usage: sshlab connect SOCKET | listen SOCKET PORTFILE | stock SOCKET SSHD CONFIG | modpipe -wm SPEC | sshd OPTION")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sshlab:", err)
		os.Exit(1)
	}
}

// run is main without the process around it.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	command, args := args[0], args[1:]
	switch {
	case command == "connect" && len(args) == 1:
		return connect(ctx, args[0])
	case command == "listen" && len(args) == 2:
		return listenTCP(ctx, args[0], args[1])
	case command == "stock" && len(args) == 3:
		return serveStock(ctx, args[0], args[1], args[2])
	case command == "modpipe":
		return modpipe(os.Stdout, os.Stdin, args)
	case command == "sshd":
		return runShim(ctx, args)
	}
	return errUsage
}
