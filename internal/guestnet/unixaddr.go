//go:build linux

package guestnet

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSunPath is what fits into sockaddr_un.sun_path with its final zero.
const maxSunPath = 107

// checkUnix tells what is wrong with the address of a unix socket.
func checkUnix(address string) error {
	switch {
	case strings.HasPrefix(address, "@"):
		if len(address) == 1 || len(address) > maxSunPath {
			return &AddressError{"unix", address, "is not a name of 1 to 106 bytes"}
		}
	case !filepath.IsAbs(address):
		return &AddressError{"unix", address, "is not an absolute path"}
	case strings.ContainsRune(address, 0):
		return &AddressError{"unix", address, "has a zero byte"}
	}
	return nil
}

// isAbstract holds for addresses without a file.
func isAbstract(address string) bool { return strings.HasPrefix(address, "@") }

// sockaddr calls fn with the address as the kernel takes it. A path that is too
// long for it goes by way of its directory's descriptor.
func sockaddr(address string, fn func(unix.Sockaddr) error) error {
	if len(address) <= maxSunPath {
		return fn(&unix.SockaddrUnix{Name: address})
	}
	dir, name := filepath.Split(address)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	short := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
	if len(short) > maxSunPath {
		return unix.ENAMETOOLONG
	}
	return fn(&unix.SockaddrUnix{Name: short})
}

// opError is what package net would have returned.
func opError(op, address string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: "unix", Addr: &net.UnixAddr{Name: address, Net: "unix"}, Err: err}
}

// newUnixSocket returns a stream socket that does not block.
func newUnixSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}
