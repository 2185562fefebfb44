//go:build linux

package guestnet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
)

// The states in /proc/net that mean "takes what comes".
const (
	procListen  = "0A" // TCP_LISTEN
	procUnbound = "07" // TCP_CLOSE: a UDP socket that is not connected
)

// procDump is diagDump where sock_diag is not there: a kernel without the
// module, or a sandbox that denies netlink. A table that is not there is empty.
func procDump(t *table) ([]Port, error) {
	f, err := os.Open("/proc/net/" + t.file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseProc(t, f)
}

// parseProc reads a table as proc(5) describes /proc/net/tcp.
func parseProc(t *table, r io.Reader) ([]Port, error) {
	want := procListen
	if t.udp {
		want = procUnbound
	}
	var ports []Port
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 10 || string(f[0]) == "sl" {
			continue
		}
		if string(f[3]) != want {
			if !t.udp {
				break // listeners come first: the connections need not be read
			}
			continue
		}
		local, ok := parseProcAddr(f[1])
		if !ok || local.Port() == 0 {
			continue
		}
		uid, err1 := strconv.ParseUint(string(f[7]), 10, 32)
		inode, err2 := strconv.ParseUint(string(f[9]), 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		ports = append(ports, Port{Network: t.networkOf(local.Addr()), Addr: local, UID: uint32(uid), Socket: inode})
	}
	return ports, lines.Err()
}

// parseProcAddr reads "0100007F:1F90": the address in 32-bit words, each as the
// machine has it in memory but written as a number, and the port.
func parseProcAddr(text []byte) (netip.AddrPort, bool) {
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
