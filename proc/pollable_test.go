//go:build linux

package proc

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// unpollable opens a file of which the poller takes as little as of any other
// when its user has max_user_watches of them.
func unpollable(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestPollableTellsOfAFullPoller(t *testing.T) {
	fd := unpollable(t)
	if f, err := pollable(fd, "null"); !errors.Is(err, ErrNoPoll) {
		t.Fatalf("got %v, %v", f, err)
	}
	if err := unix.Close(fd); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor was left open: close: %v", err)
	}
}

func TestStartWithoutAPollerLeavesNoChild(t *testing.T) {
	for name, pidfd := range map[string]func() int{
		"no pidfd":  func() int { return -1 },
		"no poller": func() int { return unpollable(t) },
	} {
		t.Run(name, func(t *testing.T) {
			var pid int
			f := &fork{
				plan: &plan{spec: &Spec{}, programs: []string{"/bin/sleep"}, argv: []string{"sleep", "1000"}, dir: "/"},
				io:   &stdio{},
				exec: func(program string, argv []string, attr *syscall.ProcAttr) (int, int, error) {
					var err error
					pid, err = syscall.ForkExec(program, argv, attr)
					return pid, pidfd(), err
				},
			}
			_, file, err := f.direct()
			if start, ok := errors.AsType[*StartError](err); !ok || start.Stage != StageExec || file != nil {
				t.Errorf("got %v, %v", file, err)
			}
			if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		})
	}
}
