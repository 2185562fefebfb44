//go:build linux

package proc

import (
	"context"
	"os"
	"slices"
	"strconv"

	"github.com/guestd/guestd/internal/procnet"
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

// await looks again and again: the kernel tells nobody that a socket listens.
func (c PortCondition) await(ctx context.Context, _ func()) (Match, error) {
	return Match{}, poll(ctx, c.look)
}

func (c PortCondition) look() bool {
	tables := []procnet.Table{"tcp", "tcp6"}
	if c.Network == "udp" {
		tables = []procnet.Table{"udp", "udp6"}
	}
	return slices.ContainsFunc(tables, c.heldIn)
}

// heldIn reports whether a table has the socket that is waited for.
func (c PortCondition) heldIn(table procnet.Table) bool {
	sockets, _ := procnet.Listening(table) // what could not be read is looked for again
	return slices.ContainsFunc(sockets, func(s procnet.Socket) bool {
		return s.Addr.Port() == c.Port && (c.Process == nil || c.Process.ownsSocket(s.Inode))
	})
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
