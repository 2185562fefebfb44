//go:build linux

package guestnet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed says that a Ports was closed.
var ErrClosed = errors.New("guestnet: closed")

// ErrTooManyWatches says that as many watches are open as there may be.
var ErrTooManyWatches = errors.New("too many watches of ports")

const (
	// maxWatches bounds the watches of one Ports. All of them share the work;
	// each holds what it has told.
	maxWatches = 256

	// ownerTries is how often to look for the process of a socket that none
	// seems to have open. It may just be passing from one to another, or its
	// process is at its end, and it will be gone with it.
	ownerTries = 3

	// diagRetry is how long to leave sock_diag alone after it failed: to ask
	// makes the kernel start a program that looks for its module.
	diagRetry = 10 * time.Minute
)

// Ports tells which ports of the guest are listened on. Its methods are safe
// for concurrent use. It costs nothing while nobody watches.
type Ports struct {
	// reading is held while the tables are read, and until what was read is
	// published; it guards known, broken and retry. It is taken before mu.
	reading sync.Mutex
	known   map[key]*known
	broken  bool      // sock_diag failed
	retry   time.Time // when to try it again

	mu      sync.Mutex
	closed  bool
	watches int
	looks   uint64             // how often the tables were read for those who watch
	now     *snapshot          // nil before the first of those
	stop    context.CancelFunc // ends the loop; nil before the first

	wake  chan struct{} // capacity 1: look now
	done  chan struct{} // closed by Close
	loops sync.WaitGroup
}

// known is what is remembered of a socket: whose it is.
type known struct {
	owner  owner // who had it open when last somebody had
	sought bool  // whether it has been looked for at all
	missed int   // how often nobody was found since
}

// NewPorts returns a Ports, which must be closed.
func NewPorts() *Ports {
	return &Ports{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Close ends all watches, with [ErrClosed], and waits for what they share.
func (p *Ports) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.done)
		if p.stop != nil {
			p.stop()
		}
	}
	p.mu.Unlock()
	p.loops.Wait()
	return nil
}

// List returns the ports that are listened on now, ordered by port, network and
// address.
func (p *Ports) List(ctx context.Context) ([]Port, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.reading.Lock()
	defer p.reading.Unlock()
	return p.read(true)
}

// read reads the tables. Whose a socket is, is found out for those that are
// new, or for all. p.reading is held.
func (p *Ports) read(all bool) ([]Port, error) {
	var ports []Port
	for i := range tables {
		some, err := p.dump(&tables[i])
		if err != nil {
			return nil, err
		}
		ports = append(ports, some...)
	}
	p.attribute(ports, all)
	slices.SortFunc(ports, comparePorts)
	return ports, nil
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Addr.Port(), b.Addr.Port()), cmp.Compare(a.Network, b.Network),
		a.Addr.Addr().Compare(b.Addr.Addr()), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Socket, b.Socket))
}

// tables are the kernel's lists.
var tables = [...]table{
	{family: unix.AF_INET, file: "tcp"},
	{family: unix.AF_INET6, file: "tcp6"},
	{family: unix.AF_INET, file: "udp", udp: true},
	{family: unix.AF_INET6, file: "udp6", udp: true},
}

// dump reads one table. p.reading is held.
func (p *Ports) dump(t *table) ([]Port, error) {
	if !p.broken || time.Now().After(p.retry) {
		ports, err := diagDump(t)
		if err == nil || isShort(err) {
			p.broken = false
			return ports, err
		}
		p.broken, p.retry = true, time.Now().Add(diagRetry)
	}
	return procDump(t)
}

// isShort reports whether err is a want of descriptors or memory, which says
// nothing about sock_diag, and which /proc/net would meet as well.
func isShort(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS},
		func(errno unix.Errno) bool { return errors.Is(err, errno) })
}

// attribute fills in whose the ports are. p.reading is held.
func (p *Ports) attribute(ports []Port, all bool) {
	now := make(map[key]*known, len(ports))
	wanted := make(map[uint64]bool)
	gone := make(map[int]bool) // of the processes that have been asked for
	for i := range ports {
		k := ports[i].key()
		old := p.known[k]
		if old == nil {
			old = new(known)
		}
		now[k] = old
		switch {
		case all, !old.sought, old.owner.pid == 0 && old.missed < ownerTries:
		case old.owner.pid != 0 && hasEnded(old.owner.pid, gone):
			// Somebody else may have it open.
		default:
			continue
		}
		wanted[ports[i].Socket] = true
	}
	p.known = now
	if len(wanted) > 0 {
		owners := findOwners(wanted)
		for k, of := range now {
			if wanted[k.inode] {
				of.note(owners[k.inode])
			}
		}
	}
	for i := range ports {
		of := now[ports[i].key()].owner
		ports[i].PID, ports[i].Name = of.pid, of.name
	}
}

// note is told who was found to have the socket open; nobody, if the pid is 0.
func (k *known) note(found owner) {
	k.sought = true
	if found.pid != 0 {
		k.owner, k.missed = found, 0
		return
	}
	if k.missed++; k.missed >= ownerTries {
		k.owner = owner{}
	}
}

// hasEnded reports whether there is no such process, and remembers it in known.
func hasEnded(pid int, known map[int]bool) bool {
	gone, ok := known[pid]
	if !ok {
		gone = errors.Is(unix.Kill(pid, 0), unix.ESRCH)
		known[pid] = gone
	}
	return gone
}
