//go:build linux

package proc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ptmx makes terminals; see pts(4).
const ptmx = "/dev/ptmx"

// openTTY opens a terminal pair, sets its size and modes before anybody can
// look, and gives the slave to the user, who may want to open it again.
func (io *stdio) openTTY(p *plan) error {
	// The master begins non-blocking, so that the runtime's poller has it.
	// (creack/pty calls Fd on it, and every read would hold a thread.)
	fd, err := unix.Open(ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: ptmx, Err: err}
	}
	if io.tty, err = pollable(fd, ptmx); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return os.NewSyscallError("unlock terminal", err)
	}
	// By descriptor, not by name: /dev/pts may show another instance of
	// devpts, or not be mounted.
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return os.NewSyscallError("open slave", errno)
	}
	io.child = [3]uintptr{slave, slave, slave}
	io.close = append(io.close, int(slave))
	if err := setModes(int(slave), p.spec.TTY.Modes); err != nil {
		return os.NewSyscallError("set modes", err)
	}
	if err := setSize(int(slave), p.spec.TTY.Size); err != nil {
		return os.NewSyscallError("set size", err)
	}
	if name := p.spec.TTY.NameEnv; name != "" {
		n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		if err != nil {
			return os.NewSyscallError("number of terminal", err)
		}
		p.env = dedup(append(p.env, fmt.Sprintf("%s=/dev/pts/%d", name, n)))
	}
	if p.cred != nil {
		return os.NewSyscallError("fchown", unix.Fchown(int(slave), int(p.cred.Uid), -1))
	}
	return nil
}

func setSize(fd int, s Size) error {
	ws := unix.Winsize{Row: s.Rows, Col: s.Cols, Xpixel: s.XPixel, Ypixel: s.YPixel}
	if ws.Row == 0 {
		ws.Row = 24
	}
	if ws.Col == 0 {
		ws.Col = 80
	}
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &ws)
}

// Resize sets the size of the process's terminal; its foreground group gets
// SIGWINCH if that is a change. ErrNoTTY where there is none.
func (p *Process) Resize(s Size) error {
	if p.io.tty == nil {
		return fmt.Errorf("resize process %s: %w", p.id, ErrNoTTY)
	}
	err := control(p.io.tty, func(fd int) error { return setSize(fd, s) })
	if err != nil {
		return fmt.Errorf("resize process %s: %w", p.id, doneIfClosed(err))
	}
	return nil
}

// setModes applies RFC 4254 §8 modes. Where the caller says nothing of UTF-8
// (RFC 8160) it is on: without it, erasing a multi-byte character on a line
// leaves half of it.
func setModes(fd int, modes map[uint8]uint32) error {
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	tio.Iflag |= unix.IUTF8
	for op, arg := range modes {
		applyMode(tio, op, arg)
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, tio)
}

// eofChar returns the character that ends the input of a terminal, or false
// where its reader has switched line editing off.
func eofChar(fd int) (byte, bool) {
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil || tio.Lflag&unix.ICANON == 0 {
		return 0, false
	}
	return tio.Cc[unix.VEOF], true
}
