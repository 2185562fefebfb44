package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/guestd/guestd/vsock"
)

// proxyBuffer is how much is moved at once, in each direction.
const proxyBuffer = 128 << 10

func newSSHProxy(a *app) *cobra.Command {
	var pass bool
	cmd := &cobra.Command{
		Use:         "ssh-proxy [--fdpass] ADDR",
		Short:       "Connect standard input and output with an address, as ssh's ProxyCommand",
		Example:     "  ssh -o 'ProxyCommand guestctl ssh-proxy hybrid:/run/vm1.sock:22' ann@vm1",
		Hidden:      true,
		Args:        arguments(cobra.ExactArgs(1)),
		Annotations: map[string]string{passesExitCode: "yes"},
		RunE:        func(cmd *cobra.Command, args []string) error { return a.sshProxy(cmd.Context(), pass, args[0]) },
	}
	cmd.Flags().BoolVar(&pass, "fdpass", false, "give the connection away over standard output, for ssh's ProxyUseFdpass")
	return cmd
}

func (a *app) sshProxy(ctx context.Context, pass bool, text string) error {
	address, err := vsock.ParseAddr(text)
	if err != nil {
		return usageError{err}
	}
	conn, err := a.dialDoor(ctx, address)
	if err != nil {
		return err
	}
	defer release(conn)
	if !pass {
		return a.proxy(ctx, conn)
	}
	socket, isFile := a.stdout.w.(*os.File)
	descriptor, isDescriptor := conn.(syscall.Conn)
	if !isFile || !isDescriptor {
		return fmt.Errorf("pass the connection: %w", errors.ErrUnsupported)
	}
	return passConnection(socket, descriptor)
}

// proxy ends when the other side does, or stdin where that is as much as can be
// told. A goroutine may be left in a read of stdin, which nothing can wake; it
// ends with guestctl.
func (a *app) proxy(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { release(conn) })
	defer stop()
	go func() {
		if err := splice(conn, a.stdin); err != nil || vsock.CloseWrite(conn) != nil {
			release(conn)
		}
	}()
	err := splice(a.stdout, conn)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, net.ErrClosed): // by the end of stdin
		return nil
	}
	return err
}

// dialDoor connects to the SSH server, and says what may be wrong.
func (a *app) dialDoor(ctx context.Context, address vsock.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.connectTimeout)
	defer cancel()
	conn, err := vsock.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("SSH server at %s: %w; is guestd serving SSH there ('guestd serve --ssh')?", address, err)
	}
	return conn, nil
}

// splice copies with a buffer of the right size: of themselves files and
// sockets choose a small one.
func splice(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, proxyBuffer))
	return err
}
