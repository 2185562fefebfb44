//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
)

// privsepDir is where Debian's sshd locks its unprivileged half up.
const privsepDir = "/run/sshd"

// serveStock gives every connection to the socket an `sshd -i` of its own,
// until the end of ctx: OpenSSH's server behind the same door as the one under
// test. sshd's log goes to standard error.
func serveStock(ctx context.Context, socket, sshd, config string) error {
	if os.Geteuid() == 0 {
		if err := os.MkdirAll(privsepDir, 0o755); err != nil {
			return err
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return accept(ctx, l, func(conn net.Conn) {
		defer conn.Close()
		if err := serveOne(ctx, conn.(*net.UnixConn), sshd, config); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "sshlab: stock sshd:", err)
		}
	})
}

// serveOne runs sshd on one connection, over pipes as a ProxyCommand would:
// then it says UNKNOWN where it would name the client's address. It returns
// when sshd has ended and the client has closed the connection.
func serveOne(ctx context.Context, conn *net.UnixConn, sshd, config string) error {
	cmd := exec.CommandContext(ctx, sshd, "-i", "-e", "-f", config)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	splice(ctx, conn, pipes{out, in})
	return cmd.Wait()
}

// pipes are the two ends of a program as one connection.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p pipes) CloseWrite() error           { return p.in.Close() }

func (p pipes) Close() error {
	return errors.Join(p.in.Close(), p.ReadCloser.Close())
}
