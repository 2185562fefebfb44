//go:build linux

package proc

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// stdio is the three descriptors of a child and the agent's ends of them. The
// agent's ends are non-blocking and known to the runtime's poller; nothing
// here calls Fd on them, which would undo that and cost a thread per reader.
type stdio struct {
	child  [3]uintptr
	close  []int    // the child's ends, closed in the agent after the fork
	stdin  *os.File // the agent's ends; nil where there is none
	stdout *os.File
	stderr *os.File
	tty    *os.File // the master; stdin and stdout are nil then
}

// openStdio makes the descriptors. On an error nothing is left open.
func openStdio(p *plan) (_ *stdio, err error) {
	s := p.spec
	io := &stdio{}
	defer func() {
		if err != nil {
			io.closeChild()
			io.closeParent()
		}
	}()
	if s.TTY != nil {
		if err := io.openTTY(p); err != nil {
			return nil, &StartError{StagePTY, ptmx, errnoOf(err)}
		}
		return io, nil
	}
	if s.Stdin == StdinPipe {
		var r int
		if io.stdin, r, err = pipe(true); err != nil {
			return nil, &StartError{StageIO, "", err}
		}
		io.set(0, r)
	}
	if s.Stdout == OutputPipe {
		var w int
		if io.stdout, w, err = pipe(false); err != nil {
			return nil, &StartError{StageIO, "", err}
		}
		io.set(1, w)
	}
	if s.Stderr == OutputPipe {
		var w int
		if io.stderr, w, err = pipe(false); err != nil {
			return nil, &StartError{StageIO, "", err}
		}
		io.set(2, w)
	}
	if err := io.openNull(s); err != nil {
		return nil, &StartError{StageIO, os.DevNull, err}
	}
	if s.Stderr == OutputMerge {
		io.child[2] = io.child[1]
	}
	return io, nil
}

func (io *stdio) set(i, fd int) {
	io.child[i] = uintptr(fd)
	io.close = append(io.close, fd)
}

// openNull puts /dev/null wherever nothing else is.
func (io *stdio) openNull(s *Spec) error {
	discard := []bool{s.Stdin == StdinNone, s.Stdout == OutputDiscard, s.Stderr == OutputDiscard}
	null := -1
	for i, d := range discard {
		if !d {
			continue
		}
		if null < 0 {
			fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			null = fd
			io.close = append(io.close, fd)
		}
		io.child[i] = uintptr(null)
	}
	return nil
}

// pipe makes a pipe of which the agent keeps one end: the writing one if
// write, else the reading one.
func pipe(write bool) (ours *os.File, theirs int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, err
	}
	fd, theirs := p[0], p[1]
	if write {
		fd, theirs = p[1], p[0]
	}
	// Only this end: O_NONBLOCK belongs to the open file, and each end of a
	// pipe is one.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(p[0])
		_ = unix.Close(p[1])
		return nil, -1, err
	}
	if ours, err = pollable(fd, "pipe"); err != nil {
		_ = unix.Close(theirs)
		return nil, -1, err
	}
	return ours, theirs, nil
}

func (io *stdio) closeChild() {
	for _, fd := range io.close {
		_ = unix.Close(fd)
	}
	io.close = nil
}

func (io *stdio) closeParent() {
	for _, f := range []*os.File{io.stdin, io.stdout, io.stderr, io.tty} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// slack is how many bytes of a process's output the kernel may still hold.
func (io *stdio) slack() int {
	const defaultPipe = 64 << 10
	size := defaultPipe
	for _, f := range []*os.File{io.stdout, io.stderr} {
		if f == nil {
			continue
		}
		_ = control(f, func(fd int) error {
			n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
			size = max(size, n)
			return err
		})
	}
	// And a little, so that a pump with a full ring sees the end behind it.
	return size + minRing
}

// hungUp reports whether nobody but the agent has the output open any more.
func (io *stdio) hungUp() bool {
	for _, f := range []*os.File{io.stdout, io.stderr, io.tty} {
		if f == nil {
			continue
		}
		err := control(f, func(fd int) error {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			if _, err := unix.Poll(fds, 0); err != nil || fds[0].Revents&unix.POLLHUP != 0 {
				return err
			}
			return unix.EBUSY
		})
		if err != nil {
			return false
		}
	}
	return true
}

// unread reports whether the kernel holds output that no pump has read.
func (io *stdio) unread() bool {
	for _, f := range []*os.File{io.stdout, io.stderr, io.tty} {
		if f == nil {
			continue
		}
		n := 0
		err := control(f, func(fd int) (err error) {
			n, err = unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
			return err
		})
		if err == nil && n > 0 {
			return true
		}
	}
	return false
}

// control runs op on f's descriptor, which stays non-blocking and open
// meanwhile.
func control(f *os.File, op func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if conn.Control(func(fd uintptr) { err = op(int(fd)) }) != nil {
		return os.ErrClosed // the one reason, without a name of its own
	}
	return err
}

// exited reports whether the child behind pidfd has ended; it is not reaped.
func exited(pidfd int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	for err == unix.EINTR { // the poller, which tells of an end once, is not asked again then
		err = unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	}
	return err == nil && info.Signo == int32(syscall.SIGCHLD) || err == unix.ECHILD
}
