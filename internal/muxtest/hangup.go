//go:build linux

package muxtest

import (
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// hangups tells when the peer of a unix socket has closed both directions. A
// read cannot tell: it sees the end of one direction, and only behind all data
// that wait, while a VMM gets the guest's close as a packet of its own.
type hangups struct {
	epoll *os.File
	wg    sync.WaitGroup

	mu       sync.Mutex
	next     int32
	watching map[int32]func()
}

func newHangups() (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Non-blocking, the file is waited for in the runtime's own poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	h := &hangups{epoll: os.NewFile(uintptr(fd), "epoll"), watching: make(map[int32]func())}
	rc, err := h.epoll.SyscallConn()
	if err != nil {
		_ = h.epoll.Close()
		return nil, err
	}
	h.wg.Go(func() {
		for {
			err := rc.Read(func(fd uintptr) bool { return h.poll(int(fd)) })
			if err != nil {
				return // closed
			}
		}
	})
	return h, nil
}

// close ends the watching. No callback runs after it.
func (h *hangups) close() {
	_ = h.epoll.Close()
	h.wg.Wait()
}

// watch calls f once when c's peer has closed both directions, or c itself
// has. It forgets c when c is closed.
func (h *hangups) watch(c *net.UnixConn, f func()) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	h.mu.Lock()
	id := h.next
	h.next++
	h.watching[id] = f
	h.mu.Unlock()

	// EPOLLHUP is reported without being asked for.
	event := unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: id}
	var addErr error
	err = rc.Control(func(fd uintptr) { addErr = h.add(int(fd), &event) })
	if err == nil {
		err = addErr
	}
	if err != nil {
		h.take(id)
	}
	return err
}

func (h *hangups) add(fd int, event *unix.EpollEvent) error {
	rc, err := h.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var ctlErr error
	err = rc.Control(func(epfd uintptr) {
		ctlErr = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, fd, event)
	})
	if err == nil {
		err = ctlErr
	}
	return err
}

// poll runs the callbacks that are due and reports whether there were any.
func (h *hangups) poll(epfd int) bool {
	var events [64]unix.EpollEvent
	n, _ := unix.EpollWait(epfd, events[:], 0)
	for _, e := range events[:max(n, 0)] {
		if f := h.take(e.Fd); f != nil {
			f()
		}
	}
	return n > 0
}

func (h *hangups) take(id int32) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.watching[id]
	delete(h.watching, id)
	return f
}
