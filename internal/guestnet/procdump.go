//go:build linux

package guestnet

import "github.com/guestd/guestd/internal/procnet"

// procDump is diagDump where sock_diag is not there: a kernel without the
// module, or a sandbox that denies netlink. A table that is not there is empty.
func procDump(t *table) ([]Port, error) {
	sockets, err := procnet.Listening(t.file)
	ports := make([]Port, 0, len(sockets))
	for _, s := range sockets {
		ports = append(ports, Port{Network: t.networkOf(s.Addr.Addr()), Addr: s.Addr, UID: s.UID, Socket: s.Inode})
	}
	return ports, err
}
