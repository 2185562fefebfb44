//go:build linux

package guestnet

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
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

	// Address is "host:port" of an address that the guest has, or of none, or
	// "*", for all of them; port 0 lets the kernel choose. A literal 0.0.0.0 or
	// :: is all of its own family. A name, "localhost" among them, is the first
	// of its addresses that the guest has; see [ListenAll]. Of a unix socket it
	// is an absolute path or "@name".
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

// Listen listens in the guest. The listener's Addr is a *net.TCPAddr or, for
// unix, a *net.UnixAddr with the address as it was given; Accept returns
// *net.TCPConn or *net.UnixConn. It is the caller's.
//
// An error of Accept that accept.IsTemporary says passes: descriptors or memory
// are short. After another one nothing comes any more.
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

// listenTCP listens on the first address that the guest has.
func listenTCP(ctx context.Context, spec ListenSpec) (l net.Listener, err error) {
	hosts, port, err := placesOf(ctx, spec)
	if err != nil {
		return nil, err
	}
	for _, host := range hosts {
		l, err = bindTCP(ctx, spec, host, port)
		if !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EAFNOSUPPORT) {
			break
		}
	}
	return l, err
}

// maxAddresses bounds the listeners of one name.
const maxAddresses = 16

// ListenAll is [Listen] on every address of a name, up to sixteen, all with one
// port: the first one's where the kernel has chosen it. An address that the guest
// lacks, or where the port is taken, is left out, as it is by OpenSSH; there is
// at least one listener, or the first one's error. What is no name has one.
func ListenAll(ctx context.Context, spec ListenSpec) ([]net.Listener, error) {
	if kind(spec.Network) != "tcp" {
		l, err := Listen(ctx, spec)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	hosts, port, err := placesOf(ctx, spec)
	if err != nil {
		return nil, err
	}
	return bindAll(ctx, spec, hosts[:min(len(hosts), maxAddresses)], port)
}

// bindAll listens on those of the literal addresses that can be had, which are
// one or more.
func bindAll(ctx context.Context, spec ListenSpec, hosts []string, port uint16) ([]net.Listener, error) {
	var all []net.Listener
	var first error
	for _, host := range hosts {
		l, err := bindTCP(ctx, spec, host, port)
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		all = append(all, l)
		port = uint16(l.Addr().(*net.TCPAddr).Port)
	}
	if len(all) == 0 {
		return nil, first
	}
	return all, nil
}

// placesOf are the literal addresses, one or more, and the port to listen on.
func placesOf(ctx context.Context, spec ListenSpec) ([]string, uint16, error) {
	host, port, err := splitHostPort(spec.Network, spec.Address)
	if err != nil {
		return nil, 0, err
	}
	hosts, err := addressesOf(ctx, spec.Network, host)
	return hosts, port, err
}

// addressesOf are the literal addresses to listen on for host; an empty one is
// every address that there is.
func addressesOf(ctx context.Context, network, host string) ([]string, error) {
	switch {
	case host == "" || host == "*":
		return []string{""}, nil
	case isLocalhost(host):
		return loopbacks(network), nil
	}
	resolver := net.Resolver{PreferGo: true}
	hosts, err := resolver.LookupHost(ctx, host) // a literal is its own address
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return hosts, nil
}

// familyOf is the network for a literal address: package net would take 0.0.0.0
// and :: for both families.
func familyOf(network, host string) string {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil || network != "tcp":
		return network
	case addr.Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}

// bindTCP listens on a literal address. Package net makes the system calls in
// this goroutine then, and so with the user's rights.
func bindTCP(ctx context.Context, spec ListenSpec, host string, port uint16) (l net.Listener, err error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	// What would use MPTCP is a socket of another protocol to sock_diag.
	config.SetMultipathTCP(false)
	err = as(spec.User, func() error {
		l, err = config.Listen(ctx, familyOf(spec.Network, host), net.JoinHostPort(host, strconv.Itoa(int(port))))
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}
