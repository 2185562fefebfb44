//go:build linux

package guestnet

import (
	"net/netip"

	"github.com/guestd/guestd/internal/procnet"
)

// Port is a socket that accepts traffic from anybody: a TCP listener, or a UDP
// socket that is bound and not connected.
type Port struct {
	// Network is "tcp", "tcp6", "udp" or "udp6". A "…6" one on [::] usually
	// serves IPv4 as well; one on a mapped address (::ffff:192.0.2.1) is reported
	// as what it is, IPv4.
	Network string

	// Addr is the address it is bound to; the unspecified one (0.0.0.0, [::])
	// is all that the guest has.
	Addr netip.AddrPort

	// UID is the user who made the socket.
	UID uint32

	// PID is the process that has it open, of several the oldest; 0 where none
	// is seen, as in another pid namespace or the kernel's own.
	PID int

	// Name is that process's name, as ps(1) shows it; it may be any bytes.
	Name string

	// Socket is the socket's inode number, which no other has while it lives.
	Socket uint64
}

// key tells one socket from every other that lives, or lived a moment ago.
type key struct {
	network string
	addr    netip.AddrPort
	inode   uint64
}

func (p Port) key() key { return key{p.Network, p.Addr, p.Socket} }

// table is one of the kernel's lists of sockets.
type table struct {
	family uint8
	udp    bool
	file   procnet.Table
}

// networkOf is what Port.Network says of a socket in the table.
func (t *table) networkOf(addr netip.Addr) string {
	v6 := !addr.Is4()
	switch {
	case t.udp && v6:
		return "udp6"
	case t.udp:
		return "udp"
	case v6:
		return "tcp6"
	}
	return "tcp"
}
