package vsock

import (
	"os"

	"golang.org/x/sys/unix"
)

func peerCredentials(fd int) (Peer, error) {
	// The kernel answers SO_PEERCRED for any socket, with nobody's ids.
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return Peer{}, os.NewSyscallError("getsockopt", err)
	}
	if domain != unix.AF_UNIX {
		return Peer{}, unix.EAFNOSUPPORT
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, os.NewSyscallError("getsockopt", err)
	}
	return Peer{Transport: Unix, UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}, nil
}
