//go:build linux

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// crowd is the number of living processes from which on a table starts others by
// its forker.
//
// A child is forked with a copy of the agent's descriptors, three for every
// living process, and its exec closes them one by one, a third of a microsecond
// each. With a thousand processes alive that takes longer than all the rest of a
// start. Going through the forker costs about as much as a hundred processes do.
const crowd = 128

// A forker is a thread of this program that has a table of descriptors of its
// own (unshare(2), CLONE_FILES), which is all but empty: what it forks has next
// to nothing to close. Its children are the program's like all others.
//
// In its table only those descriptors have a meaning that are the runtime's
// own: it may look into its poller, or wake it, on any thread. So nothing that
// works with an os.File is called on it.
type forker struct {
	tasks chan func()
	done  chan struct{} // closed when the thread has no more to do
	self  int           // pidfd of this program, in the forker's table
}

// newForker starts the thread; the caller ends it with close. The runtime's
// poller must be in use, as it is by everybody who has a process.
func newForker() (*forker, error) {
	keep, err := pollerFiles()
	if err != nil {
		return nil, err
	}
	f := &forker{tasks: make(chan func()), done: make(chan struct{})}
	begun := make(chan error)
	onOwnThread(func() {
		defer close(f.done)
		begun <- f.leave(keep)
		for task := range f.tasks {
			task()
		}
	})
	if err := <-begun; err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// onOwnThread starts a goroutine that runs f on a thread which does nothing
// else, and which ends with it. It is never the first thread: that one stands for
// the program where the kernel is asked for a descriptor of "the process", and
// does not end. Nor does the runtime make other threads from a locked one; they
// would share its table.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		other := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(other)
			f()
		}()
		<-other
		runtime.UnlockOSThread()
	}()
}

// close ends the thread and waits for that. Nothing may be under way.
func (f *forker) close() {
	close(f.tasks)
	<-f.done
}

// pollerFiles lists the descriptors that the runtime waits with, in order.
func pollerFiles() ([]int, error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		link, _ := os.Readlink(filepath.Join(dir, e.Name()))
		if kind := strings.TrimPrefix(link, "anon_inode:"); kind == "[eventpoll]" || kind == "[eventfd]" {
			fds = append(fds, fd)
		}
	}
	if len(fds) == 0 {
		return nil, errors.New("the runtime has no poller")
	}
	slices.Sort(fds)
	return fds, nil
}

// leave takes this thread away from the common table. Of that it keeps copies
// of the standard descriptors and of those in keep; any other would hold open
// what the rest of the program closes.
func (f *forker) leave(keep []int) error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	next := uint(3)
	for _, fd := range keep {
		if uint(fd) > next {
			if err := unix.CloseRange(next, uint(fd)-1, 0); err != nil {
				return os.NewSyscallError("close_range", err)
			}
		}
		next = uint(fd) + 1
	}
	if err := unix.CloseRange(next, ^uint(0), 0); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	var err error
	if f.self, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	// Once, to see whether it is allowed.
	fd, err := unix.PidfdGetfd(f.self, keep[0], 0)
	if err != nil {
		return os.NewSyscallError("pidfd_getfd", err)
	}
	return os.NewSyscallError("close", unix.Close(fd))
}

// do runs task on the forker's thread.
func (f *forker) do(task func()) {
	done := make(chan struct{})
	f.tasks <- func() {
		defer close(done)
		task()
	}
	<-done
}

// forkExec is syscall.ForkExec on the forker's thread, with attr's descriptors
// from the common table. attr.Sys.PidFD must be nil. The pidfd is the caller's.
func (f *forker) forkExec(program string, argv []string, attr *syscall.ProcAttr) (pid, pidfd int, err error) {
	f.do(func() {
		var own *syscall.ProcAttr
		var release func()
		own, release, err = f.borrow(attr)
		defer release()
		if err == nil {
			pid, err = syscall.ForkExec(program, argv, own)
		}
	})
	if err != nil {
		return 0, -1, err
	}
	// Nobody else waits for this child, so that the number is still its own.
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		discard(pid)
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// borrow is attr with copies of its descriptors in this thread's table, which
// release closes.
func (f *forker) borrow(attr *syscall.ProcAttr) (own *syscall.ProcAttr, release func(), err error) {
	type copied struct{ theirs, ours int }
	var copies []copied
	get := func(fd uintptr) uintptr {
		for _, c := range copies {
			if c.theirs == int(fd) {
				return uintptr(c.ours)
			}
		}
		ours, gerr := unix.PidfdGetfd(f.self, int(fd), 0)
		if gerr != nil {
			err = os.NewSyscallError("pidfd_getfd", gerr)
			return 0
		}
		copies = append(copies, copied{int(fd), ours})
		return uintptr(ours)
	}
	clone, sys := *attr, *attr.Sys
	clone.Sys, clone.Files = &sys, make([]uintptr, len(attr.Files))
	for i, fd := range attr.Files {
		clone.Files[i] = get(fd)
	}
	if sys.UseCgroupFD {
		sys.CgroupFD = int(get(uintptr(sys.CgroupFD)))
	}
	return &clone, func() {
		for _, c := range copies {
			_ = unix.Close(c.ours)
		}
	}, err
}

// discard kills and reaps a child that nobody has been told of.
func discard(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL) // ours, and not reaped
	var ws syscall.WaitStatus
	for _, err := syscall.Wait4(pid, &ws, 0, nil); err == syscall.EINTR; {
		_, err = syscall.Wait4(pid, &ws, 0, nil)
	}
}

// forkExec starts a program, by the forker where that is quicker, and returns
// its pidfd, which is the caller's.
func (t *Table) forkExec(program string, argv []string, attr *syscall.ProcAttr) (pid, pidfd int, err error) {
	if f := t.crowdForker(); f != nil {
		return f.forkExec(program, argv, attr)
	}
	sys := *attr.Sys
	pidfd = -1
	sys.PidFD = &pidfd
	own := *attr
	own.Sys = &sys
	pid, err = syscall.ForkExec(program, argv, &own)
	return pid, pidfd, err
}

// crowdForker returns the table's forker, or nil where there is no crowd or no
// forker is possible.
func (t *Table) crowdForker() *forker {
	t.mu.Lock()
	crowded := t.alive > t.crowd
	t.mu.Unlock()
	if !crowded {
		return nil
	}
	t.forkerOnce.Do(func() {
		var err error
		if t.forker, err = newForker(); err != nil {
			t.log.Info("many processes will make each start slower", "error", err)
		}
	})
	return t.forker
}

// closeForker ends the forker. It comes when nothing is being started any more.
func (t *Table) closeForker() {
	t.forkerOnce.Do(func() {})
	t.mu.Lock()
	f := t.forker
	t.forker = nil
	t.mu.Unlock()
	if f != nil {
		f.close()
	}
}
