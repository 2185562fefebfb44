//go:build linux

package proc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// The states in /proc/net/{tcp,udp} that mean "takes what comes".
const (
	stateListen  = "0A" // TCP_LISTEN
	stateUnbound = "07" // TCP_CLOSE: a UDP socket that is not connected
)

func (c PortCondition) check() error {
	switch {
	case c.Port == 0:
		return &SpecError{"port", "is 0"}
	case c.Network != "" && c.Network != "tcp" && c.Network != "udp":
		return &SpecError{"network", "is neither tcp nor udp"}
	}
	return nil
}

func (c PortCondition) await(ctx context.Context) (Match, error) {
	network, state := "tcp", stateListen
	if c.Network == "udp" {
		network, state = "udp", stateUnbound
	}
	return Match{}, poll(ctx, func() bool {
		for _, family := range []string{"", "6"} {
			for _, inode := range listeners("/proc/net/"+network+family, state, c.Port) {
				if c.Process == nil || c.Process.ownsSocket(inode) {
					return true
				}
			}
		}
		return false
	})
}

// listeners returns the inodes of the sockets in file that listen on port.
func listeners(file, state string, port uint16) []uint64 {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	return parseListeners(f, state, port)
}

func parseListeners(r io.Reader, state string, port uint16) []uint64 {
	suffix := fmt.Sprintf(":%04X", port)
	var inodes []uint64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		if f[3] != state {
			if state == stateListen {
				// The kernel lists listening sockets first: a thousand
				// connections need not be read.
				break
			}
			continue
		}
		if !strings.HasSuffix(f[1], suffix) {
			continue
		}
		if inode, err := strconv.ParseUint(f[9], 10, 64); err == nil {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// ownsSocket reports whether something of the process's tree has the socket
// open.
func (p *Process) ownsSocket(inode uint64) bool {
	pids := []int{p.pid}
	if p.cg != nil {
		pids = p.cg.members()
	} else if !p.sessionReused() {
		pids = sessionMembers(p.pid)
	}
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		d, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := d.Readdirnames(-1)
		_ = d.Close()
		for _, name := range names {
			if target, err := os.Readlink(dir + "/" + name); err == nil && target == want {
				return true
			}
		}
	}
	return false
}
