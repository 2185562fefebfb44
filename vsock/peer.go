package vsock

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	mdvsock "github.com/mdlayher/vsock"
)

// A Peer is who is at the other end of a connection, by the kernel's word.
type Peer struct {
	// Transport says which fields hold something: VM has CID and Port; Unix
	// has UID, GID and PID, also for a hybrid socket, whose direct peer is a
	// process of this machine.
	Transport Transport

	CID  uint32 // VM: the machine
	Port uint32 // VM: the source port; below 1024 takes privilege on a Linux kernel

	UID uint32 // Unix: effective user when it connected, in our user namespace
	GID uint32 // Unix: effective group when it connected
	PID int32  // Unix: process that connected; 0 where it is not visible. May have ended, and be another process now.
}

// String describes the peer for a log.
func (p Peer) String() string {
	switch p.Transport {
	case VM:
		return fmt.Sprintf("cid %d port %d", p.CID, p.Port)
	case Unix:
		return fmt.Sprintf("uid %d gid %d pid %d", p.UID, p.GID, p.PID)
	default:
		return "unknown"
	}
}

// PeerOf identifies the peer of an AF_VSOCK or unix connection, of this
// package or not, also below a wrapper with a NetConn method as TLS has it. It
// fails for other kinds of connections and never guesses.
func PeerOf(c net.Conn) (Peer, error) {
	for {
		switch a := c.RemoteAddr().(type) {
		case Addr:
			if a.Transport == VM {
				return Peer{Transport: VM, CID: a.CID, Port: a.Port}, nil
			}
		case *mdvsock.Addr:
			return Peer{Transport: VM, CID: a.ContextID, Port: a.Port}, nil
		}
		if sc, ok := c.(syscall.Conn); ok {
			return unixPeer(sc)
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return Peer{}, fmt.Errorf("peer of %T: %w", c, errors.ErrUnsupported)
		}
		c = wrapper.NetConn()
	}
}

// unixPeer asks the kernel for the credentials of a unix socket's peer.
func unixPeer(sc syscall.Conn) (Peer, error) {
	rc, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	var p Peer
	var credErr error
	if err := rc.Control(func(fd uintptr) { p, credErr = peerCredentials(int(fd)) }); err != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", credErr)
	}
	return p, nil
}
