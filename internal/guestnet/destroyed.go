//go:build linux

package guestnet

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// destroyed tells that sockets have gone, as the kernel multicasts it to
// whoever listens (sock_diag(7), SKNLGRP_INET_TCP_DESTROY).
type destroyed struct{ file *os.File }

// openDestroyed fails where there is no sock_diag, or it may not be used.
func openDestroyed() (*destroyed, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "sock_diag")
	// Before the first message can come.
	if err := filterListeners(fd); err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	groups := []int{
		unix.SKNLGRP_INET_TCP_DESTROY, unix.SKNLGRP_INET6_TCP_DESTROY,
		unix.SKNLGRP_INET_UDP_DESTROY, unix.SKNLGRP_INET6_UDP_DESTROY,
	}
	for _, group := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			_ = file.Close()
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	return &destroyed{file}, nil
}

// filterListeners makes the kernel keep to itself the end of what had a peer: a
// server that ends ten thousand connections in a second wakes nobody.
func filterListeners(fd int) error {
	const load, jumpEqual, ret = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: unix.SizeofNlMsghdr + diagDport},
		{Code: jumpEqual, K: 0, Jt: 0, Jf: 1},
		{Code: ret, K: ^uint32(0)},
		{Code: ret, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// run calls fn whenever sockets have gone, until close.
func (d *destroyed) run(fn func()) {
	b := make([]byte, 8<<10)
	for {
		_, err := d.file.Read(b)
		// Messages that were lost are news as well.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		fn()
	}
}

func (d *destroyed) close() { _ = d.file.Close() }

// forkCounter tells whether processes have been started, which is when ports
// are opened soon.
type forkCounter struct {
	file *os.File // /proc/loadavg; nil: it cannot be told
	last []byte
}

func newForkCounter() *forkCounter {
	file, err := os.Open("/proc/loadavg")
	if err != nil {
		return &forkCounter{}
	}
	return &forkCounter{file: file}
}

// moved reports whether there was a fork since it was called last.
func (c *forkCounter) moved() bool {
	if c.file == nil {
		return false
	}
	var b [128]byte
	n, _ := c.file.ReadAt(b[:], 0)
	// The last field is the newest process's id.
	line := bytes.TrimSpace(b[:n])
	last := line[bytes.LastIndexByte(line, ' ')+1:]
	moved := !bytes.Equal(last, c.last)
	c.last = append(c.last[:0], last...)
	return moved
}

func (c *forkCounter) close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}
