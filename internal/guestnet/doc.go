//go:build linux

// Package guestnet is the guest's network as both servers of the agent use it:
// it dials, it listens, and it reports who listens.
//
//	d := guestnet.Dialer{User: &id}
//	conn, err := d.DialContext(ctx, "tcp", "localhost:3000")
//	conn, err := d.DialContext(ctx, "unix", "/run/app.sock")
//	l, err := guestnet.Listen(ctx, guestnet.ListenSpec{Network: "tcp", Address: "127.0.0.1:0"})
//
//	ports := guestnet.NewPorts()
//	list, err := ports.List(ctx)
//	watch, err := ports.Watch()
//
// # Networks and addresses
//
// "tcp", "tcp4", "tcp6", "udp", "udp4" and "udp6" take "host:port" as package
// net does; names are resolved by Go's own resolver from the guest's files.
// "localhost", and no host at all, are the loopback addresses whatever
// /etc/hosts says, as RFC 6761 §6.3 wants it, and are tried one after the
// other: a server may listen on only one of 127.0.0.1 and ::1. "unix" takes an
// absolute path of any length that the kernel takes for a file, or "@name" for a
// socket of the abstract namespace.
//
// # Rights
//
// With a User, the kernel decides what that user may do: whether it may reach a
// unix socket or make one in a directory, and bind a port below 1024. The other
// end of a unix socket sees the user's ids in SO_PEERCRED (and the agent's
// pid), not those of the agent; a service that trusts root cannot be deceived
// through a forward. TCP and UDP sockets belong to the user, as netfilter and
// ss(8) show them.
//
// # Errors
//
// A failed dial or listen returns a *[net.OpError] that wraps the errno or a
// *[net.DNSError], so errors.Is with syscall.ECONNREFUSED or fs.ErrPermission
// holds. A malformed network or address is an *[AddressError].
package guestnet

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// AddressError says that a network or an address is malformed.
type AddressError struct {
	Network, Address string
	Problem          string // for people: "is not an absolute path"
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s address %q %s", e.Network, e.Address, e.Problem)
}

// kind is a network without its IP version: "tcp", "udp", "unix", or "" for
// what is none of them.
func kind(network string) string {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return "tcp"
	case "udp", "udp4", "udp6":
		return "udp"
	case "unix":
		return "unix"
	}
	return ""
}

// splitHostPort is net.SplitHostPort for a numeric port.
func splitHostPort(network, address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, &AddressError{network, address, "is not HOST:PORT"}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, &AddressError{network, address, "has no port from 0 to 65535"}
	}
	if strings.ContainsRune(host, 0) {
		return "", 0, &AddressError{network, address, "has a zero byte"}
	}
	return host, uint16(n), nil
}

// isLocalhost holds for the names that RFC 6761 §6.3 reserves for the loopback
// addresses, and for no name.
func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
