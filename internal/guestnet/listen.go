//go:build linux

package guestnet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strconv"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// DefaultSocketMode is the mode of a unix socket without one: its owner's
// alone.
const DefaultSocketMode fs.FileMode = 0o600

// ListenSpec says where to listen.
type ListenSpec struct {
	// Network is "tcp", "tcp4", "tcp6" or "unix".
	Network string

	// Address is "host:port" of an address that the guest has, or of none for
	// all of them; port 0 lets the kernel choose. "localhost" is both loopback
	// addresses' first that the guest has. Of a unix socket it is an absolute
	// path or "@name".
	Address string

	// User is whose rights to use, and who owns the socket; nil is the agent's
	// own.
	User *passwd.Identity

	// Mode is the permission bits of a unix socket's file, set exactly; zero is
	// [DefaultSocketMode].
	Mode fs.FileMode

	// Owner is who is to own a unix socket's file, where that is not User, who
	// must be allowed to give files away; nil is User.
	Owner *Owner
}

// Owner is the owner and group of a file.
type Owner struct{ UID, GID uint32 }

// Listen listens in the guest. The listener is a *net.TCPListener or, for
// unix, one whose Addr is a *net.UnixAddr with the address as it was given;
// Accept then returns *net.UnixConn. It is the caller's.
//
// A unix socket that nobody listens on any more is replaced; what somebody does
// listen on, and any other kind of file, is EADDRINUSE. Closing the listener
// removes the file, if it is still the same.
func Listen(ctx context.Context, spec ListenSpec) (net.Listener, error) {
	switch kind(spec.Network) {
	case "tcp":
		return listenTCP(ctx, spec)
	case "unix":
		if err := ctx.Err(); err != nil {
			return nil, opError("listen", spec.Address, err)
		}
		return listenUnix(spec)
	}
	return nil, &AddressError{spec.Network, spec.Address, "is nothing to listen on"}
}

func listenTCP(ctx context.Context, spec ListenSpec) (net.Listener, error) {
	host, port, err := splitHostPort(spec.Network, spec.Address)
	if err != nil {
		return nil, err
	}
	switch {
	case host == "*":
		host = ""
	case host != "" && isLocalhost(host):
		return listenLocalhost(ctx, spec, port)
	}
	addresses := []string{host}
	if host != "" && net.ParseIP(host) == nil {
		resolver := net.Resolver{PreferGo: true}
		if addresses, err = resolver.LookupHost(ctx, host); err != nil {
			return nil, &net.OpError{Op: "listen", Net: spec.Network, Err: err}
		}
	}
	return bindTCP(ctx, spec, addresses[0], port)
}

// listenLocalhost binds 127.0.0.1, and ::1 in a guest that has only that.
func listenLocalhost(ctx context.Context, spec ListenSpec, port uint16) (l net.Listener, err error) {
	for _, host := range loopbacks(spec.Network) {
		l, err = bindTCP(ctx, spec, host, port)
		if !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return l, err
		}
	}
	return nil, err
}

// bindTCP listens on a literal address. Package net makes the system calls in
// this goroutine then, and so with the user's rights.
func bindTCP(ctx context.Context, spec ListenSpec, host string, port uint16) (l net.Listener, err error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	// What would use MPTCP is a socket of another protocol to sock_diag.
	config.SetMultipathTCP(false)
	err = as(spec.User, func() error {
		l, err = config.Listen(ctx, spec.Network, net.JoinHostPort(host, strconv.Itoa(int(port))))
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}
