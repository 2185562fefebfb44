package vsock

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// refusalLogInterval is the least time between two log lines about refused
// peers: a process of the guest that dials in a loop must not fill the log.
const refusalLogInterval = 10 * time.Second

// privilegedPorts is the first port that takes no privilege to bind.
const privilegedPorts = 1024

// A Policy says who counts as the host. The zero Policy is the usual one.
type Policy struct {
	// RequirePrivilegedPort accepts on AF_VSOCK only source ports below 1024,
	// which on a host with the kernel's vhost-vsock take CAP_NET_BIND_SERVICE.
	// A VMM with a hybrid socket invents the port, Firecracker a high one:
	// there the socket file's mode is the gate, and this refuses everybody.
	RequirePrivilegedPort bool

	// Logger gets a line about refused peers, at most one in ten seconds. Nil
	// discards.
	Logger *slog.Logger

	// peerOf replaces PeerOf in tests: a machine without a host has no peer
	// with a CID.
	peerOf func(net.Conn) (Peer, error)
}

// HostOnly returns a listener that accepts from l only connections of the
// host: on AF_VSOCK those from CID 2, on a unix socket those of this process's
// effective user or of root. Others, and whoever cannot be identified, are
// closed at once without a byte, counted, and logged.
//
// Closing the HostListener closes l.
func HostOnly(l net.Listener, p Policy) *HostListener {
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.peerOf == nil {
		p.peerOf = PeerOf
	}
	return &HostListener{Listener: l, policy: p, uid: uint32(os.Geteuid())}
}

// A HostListener is the listener made by [HostOnly].
type HostListener struct {
	net.Listener
	policy  Policy
	uid     uint32
	refused atomic.Uint64

	mu      sync.Mutex
	nextLog time.Time
}

// Accept returns the next connection of the host. It refuses others without
// waiting for anything from them.
func (l *HostListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		reason := l.check(c)
		if reason == nil {
			return c, nil
		}
		_ = c.Close()
		l.logRefusal(l.refused.Add(1), reason)
	}
}

// Refused returns how many connections were refused so far. It may be called
// at any time, also after Close.
func (l *HostListener) Refused() uint64 { return l.refused.Load() }

// check returns why the peer of c is not the host, nil if it is.
func (l *HostListener) check(c net.Conn) error {
	p, err := l.policy.peerOf(c)
	if err != nil {
		return err
	}
	switch p.Transport {
	case VM:
		if p.CID != CIDHost {
			return fmt.Errorf("%v: not the host (cid %d)", p, CIDHost)
		}
		if l.policy.RequirePrivilegedPort && p.Port >= privilegedPorts {
			return fmt.Errorf("%v: port not below %d", p, privilegedPorts)
		}
		return nil
	case Unix:
		if p.UID != 0 && p.UID != l.uid {
			return fmt.Errorf("%v: neither root nor uid %d", p, l.uid)
		}
		return nil
	default:
		return fmt.Errorf("%v: no rule for this peer", p)
	}
}

func (l *HostListener) logRefusal(total uint64, reason error) {
	now := time.Now()
	l.mu.Lock()
	due := !now.Before(l.nextLog)
	if due {
		l.nextLog = now.Add(refusalLogInterval)
	}
	l.mu.Unlock()
	if due {
		l.policy.Logger.Warn("connection refused", "address", l.Addr(), "reason", reason, "refused", total)
	}
}
