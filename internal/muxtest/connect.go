//go:build linux

package muxtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxConnect is the longest CONNECT line, newline included.
const maxConnect = 32

var errConnect = errors.New("bad CONNECT line")

// serveHost answers the host's CONNECT and forwards. Whatever goes wrong, the
// host sees its socket closed and no word about it.
func (l *link) serveHost() {
	port, err := readConnect(l.host, l.m.cfg.PatientConnect)
	if err != nil {
		return
	}
	guest, err := l.m.dialGuest(port, l)
	if err != nil {
		return
	}
	if l.m.cfg.DropEarly {
		dropQueued(l.host)
	}
	answer := l.hostPort
	if l.m.cfg.ReplyGuestPort {
		answer = port
	}
	if err := l.reply(fmt.Appendf(nil, "OK %d\n", answer)); err != nil {
		_ = guest.Close()
		return
	}
	l.forward(guest)
}

// readConnect reads the line and nothing behind it. Unless it is patient, the
// line must be there as a whole when its first byte is.
func readConnect(host *net.UnixConn, patient bool) (uint32, error) {
	rc, err := host.SyscallConn()
	if err != nil {
		return 0, err
	}
	var line []byte
	var lineErr error
	err = rc.Read(func(fd uintptr) bool {
		for {
			var b [1]byte
			n, err := syscall.Read(int(fd), b[:])
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case errors.Is(err, syscall.EAGAIN) && (patient || len(line) == 0):
				return false
			case err != nil:
				lineErr = err
			case n == 0 || len(line) == maxConnect:
				lineErr = errConnect
			case b[0] != '\n':
				line = append(line, b[0])
				continue
			}
			return true
		}
	})
	if err = errors.Join(err, lineErr); err != nil {
		return 0, err
	}
	number, ok := bytes.CutPrefix(line, []byte("CONNECT "))
	port, err := strconv.ParseUint(string(number), 10, 32)
	if !ok || err != nil {
		return 0, errConnect
	}
	return uint32(port), nil
}

// dropQueued loses what waits to be read.
func dropQueued(c *net.UnixConn) {
	rc, err := c.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, chunk)
	_ = rc.Control(func(fd uintptr) {
		for {
			if n, err := syscall.Read(int(fd), buf); n <= 0 || err != nil {
				return
			}
		}
	})
}

// reply writes the line, at once or so that no read returns two bytes of it.
func (l *link) reply(line []byte) error {
	if !l.m.cfg.SplitReply {
		_, err := l.host.Write(line)
		return err
	}
	for i := range line {
		if _, err := l.host.Write(line[i : i+1]); err != nil {
			return err
		}
		if err := l.waitTaken(); err != nil {
			return err
		}
	}
	return nil
}

// waitTaken waits until the host has read everything. The kernel says how much
// is left but wakes nobody when that changes.
func (l *link) waitTaken() error {
	rc, err := l.host.SyscallConn()
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		var ioctlErr error
		if err := rc.Control(func(fd uintptr) { left, ioctlErr = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }); err != nil {
			return err
		}
		if left == 0 || ioctlErr != nil {
			return ioctlErr
		}
		select {
		case <-tick.C:
		case <-l.done:
			return net.ErrClosed
		}
	}
}
