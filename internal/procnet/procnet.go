//go:build linux

// Package procnet reads the kernel's tables of sockets, /proc/net/{tcp,udp} and
// the same for IPv6, as proc(5) describes them.
package procnet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
)

// A Table is the name of one: "tcp", "tcp6", "udp" or "udp6".
type Table string

func (t Table) udp() bool { return t == "udp" || t == "udp6" }

// A Socket takes what comes to its address: it listens, or is a UDP socket that
// is bound and not connected.
type Socket struct {
	Addr  netip.AddrPort // an IPv4 address is one, also of a socket of IPv6
	UID   uint32         // of its owner
	Inode uint64         // as in the link /proc/PID/fd/N: "socket:[4711]"
}

// The states that mean "takes what comes".
const (
	stateListen  = "0A" // TCP_LISTEN
	stateUnbound = "07" // TCP_CLOSE: a UDP socket that is not connected
)

// Listening reads a table of the caller's network namespace, which is empty
// where the kernel lacks the protocol. It may be torn: a socket that comes or
// goes meanwhile can be missing or be there twice.
func Listening(t Table) ([]Socket, error) {
	f, err := os.Open("/proc/net/" + string(t))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(t, f)
}

// Parse is [Listening] of a table's text. A line that is malformed is left out.
func Parse(t Table, r io.Reader) ([]Socket, error) {
	want := stateListen
	if t.udp() {
		want = stateUnbound
	}
	var sockets []Socket
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 10 || string(f[0]) == "sl" {
			continue
		}
		if string(f[3]) != want {
			if !t.udp() {
				break // listeners come first: the connections need not be read
			}
			continue
		}
		local, ok := parseAddr(f[1])
		if !ok || local.Port() == 0 {
			continue
		}
		uid, err1 := strconv.ParseUint(string(f[7]), 10, 32)
		inode, err2 := strconv.ParseUint(string(f[9]), 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		sockets = append(sockets, Socket{Addr: local, UID: uint32(uid), Inode: inode})
	}
	return sockets, lines.Err()
}

// parseAddr reads "0100007F:1F90": the address in 32-bit words, each as the
// machine has it in memory but written as a number, and the port.
func parseAddr(text []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var words [16]byte
	n, err := hex.Decode(words[:], host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < n; i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	number, err := strconv.ParseUint(string(port), 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, _ := netip.AddrFromSlice(words[:n])
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), true
}
