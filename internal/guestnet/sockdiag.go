//go:build linux

package guestnet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's sock_diag(7), as linux/inet_diag.h lays it out. Asked for
// listeners alone it walks only these, where /proc/net/tcp would write out
// every connection of the machine.
const (
	diagRequest  = unix.SizeofNlMsghdr + 56 // and struct inet_diag_req_v2
	diagMessage  = 72                       // struct inet_diag_msg
	diagSport    = 4                        // offsets in it
	diagDport    = 6
	diagSource   = 8
	diagUID      = 64
	diagInode    = 68
	diagTimeout  = 5 // seconds; the kernel answers at once
	diagBuffer   = 32 << 10
	maxDiagError = 4096 // the largest errno
)

// errTruncated says that the kernel's answer was cut.
var errTruncated = errors.New("sock_diag: truncated answer")

// diagDump returns the listening sockets of one table.
func diagDump(t *table) ([]Port, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	timeout := unix.Timeval{Sec: diagTimeout}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Sendto(fd, diagQuery(t), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var ports []Port
	b := make([]byte, diagBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		var done bool
		if ports, done, err = parseDiag(ports, t, b[:n]); err != nil || done {
			return ports, err
		}
	}
}

// diagQuery asks for a table's sockets that take what comes.
func diagQuery(t *table) []byte {
	b := make([]byte, diagRequest)
	binary.NativeEndian.PutUint32(b, diagRequest)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[unix.SizeofNlMsghdr:]
	protocol, state := byte(unix.IPPROTO_TCP), unix.BPF_TCP_LISTEN
	if t.udp {
		// A UDP socket that is not connected is in this state.
		protocol, state = unix.IPPROTO_UDP, unix.BPF_TCP_CLOSE
	}
	req[0], req[1] = t.family, protocol
	binary.NativeEndian.PutUint32(req[4:], 1<<state)
	return b
}

// parseDiag appends the sockets in one answer to ports. Done is the end of the
// dump. An errno that the kernel answers with is the error.
func parseDiag(ports []Port, t *table, b []byte) (_ []Port, done bool, err error) {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return nil, false, errTruncated
		}
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return nil, false, errTruncated
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return ports, true, nil
		case unix.NLMSG_ERROR:
			return nil, false, diagError(body)
		case unix.SOCK_DIAG_BY_FAMILY:
			if len(body) < diagMessage {
				return nil, false, errTruncated
			}
			if p, ok := diagPort(t, body); ok {
				ports = append(ports, p)
			}
		}
		b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return ports, false, nil
}

// diagError is the errno in a struct nlmsgerr.
func diagError(body []byte) error {
	if len(body) < 4 {
		return errTruncated
	}
	errno := -int32(binary.NativeEndian.Uint32(body))
	if errno <= 0 || errno >= maxDiagError {
		return errTruncated
	}
	return os.NewSyscallError("sock_diag", unix.Errno(errno))
}

// diagPort reads a struct inet_diag_msg; false for what takes nothing.
func diagPort(t *table, m []byte) (Port, bool) {
	port := binary.BigEndian.Uint16(m[diagSport:])
	if port == 0 || binary.BigEndian.Uint16(m[diagDport:]) != 0 {
		return Port{}, false
	}
	var addr netip.Addr
	switch m[0] {
	case unix.AF_INET:
		addr = netip.AddrFrom4([4]byte(m[diagSource:]))
	case unix.AF_INET6:
		addr = netip.AddrFrom16([16]byte(m[diagSource:])).Unmap()
	default:
		return Port{}, false
	}
	return Port{
		Network: t.networkOf(addr),
		Addr:    netip.AddrPortFrom(addr, port),
		UID:     binary.NativeEndian.Uint32(m[diagUID:]),
		Socket:  uint64(binary.NativeEndian.Uint32(m[diagInode:])),
	}, true
}
