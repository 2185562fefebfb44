//go:build linux

package proc

import (
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// openTTY opens a terminal pair, sets its size and modes before anybody can
// look, and gives the slave to the user, who may want to open it again.
func (io *stdio) openTTY(p *plan) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	io.tty, io.slave = master, slave
	// Fd makes the slave blocking. That is what a child expects of its
	// terminal, and the agent never reads from this end.
	fd := int(slave.Fd())
	io.child = [3]uintptr{uintptr(fd), uintptr(fd), uintptr(fd)}
	if err := setModes(fd, p.spec.TTY.Modes); err != nil {
		return err
	}
	if err := setSize(fd, p.spec.TTY.Size); err != nil {
		return err
	}
	if p.cred != nil {
		return os.NewSyscallError("fchown", unix.Fchown(fd, int(p.cred.Uid), -1))
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
