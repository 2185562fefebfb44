//go:build linux

package nsbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The child is this program started again, in the new namespaces, under these
// names. It is two steps: the ids of the box may be mapped only once the child
// exists, and a program gets the rights of the box's root only by an execve
// after that.
const (
	nameWaiting = "guestd-nsbox-waiting"
	nameSetup   = "guestd-nsbox-setup"
)

// fdReport is where the child writes why it failed. Its execve of guestd closes
// it. The plan comes on stdin.
const fdReport = 3

// plan is what the child is told.
type plan struct {
	Root     string   // where to mount the root
	Ports    string   // directory of the ports' sockets
	Guestd   string   // binary
	Argv     []string // of guestd
	Hostname string
	Single   bool // there is no user but root
}

// IsChild says whether this process is the inside of a box, about to be set up.
// A program that uses the package asks first thing in main.
func IsChild() bool {
	return os.Args[0] == nameWaiting || os.Args[0] == nameSetup
}

// ChildMain sets the box up and becomes guestd. It returns only if that fails;
// the caller must then exit. [Start] has got the error already.
func ChildMain() error {
	syscall.CloseOnExec(fdReport)
	report := os.NewFile(fdReport, "report")
	err := childMain()
	fmt.Fprint(report, err)
	return err
}

func childMain() error {
	if err := dieWithStarter(); err != nil {
		return err
	}
	if os.Args[0] == nameWaiting {
		// One byte means that the ids are mapped.
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("wait for the id map: %w", err)
		}
		// Keep the report open for the next step.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, fdReport, syscall.F_SETFD, 0); errno != 0 {
			return errno
		}
		return fmt.Errorf("exec: %w", syscall.Exec("/proc/self/exe", []string{nameSetup}, os.Environ()))
	}
	var p plan
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := buildRoot(p); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(p.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	env := []string{
		"container=guestd-nsbox", // tells PID 1 that it is no machine's
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "TERM=linux",
	}
	return fmt.Errorf("exec %s: %w", p.Guestd, syscall.Exec(guestdPath, p.Argv, env))
}

// dieWithStarter asks the kernel to kill us when the thread that started us
// ends. The wish belongs to a thread, and only that of the one which calls
// execve lasts; an execve that gains rights, as the second step's, drops it. So
// each step asks again and stays on its thread.
func dieWithStarter() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	// It may have ended before we asked. Its pid is not visible from here, but
	// a pipe without a reader is.
	poll := []unix.PollFd{{Fd: fdReport}}
	if _, err := unix.Poll(poll, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	if poll[0].Revents&unix.POLLERR != 0 {
		return errors.New("the starter has ended")
	}
	return nil
}
