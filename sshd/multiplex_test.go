//go:build linux

package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/access"
)

// Many commands over one connection of the real client, every other one cut in
// its midst: the others are complete, and of those that were cut nothing stays
// while the connection goes on.
func TestMultiplexedCommands(t *testing.T) {
	l := newLab(t)
	control := filepath.Join(l.dir, "control")
	master := l.ssh(access.Grant{}, "-M", "-N", "-S", control)
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the master is there", func() bool { _, err := os.Stat(control); return err == nil })
	const pairs = 20
	pids := make([]int, pairs)
	var clients sync.WaitGroup
	for i := range pairs {
		clients.Go(func() {
			want := outcome{strings.Repeat("x", i*20_000), fmt.Sprintln("error", i), i}
			script := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo error %d >&2; exit %d", i*20_000, i, i)
			if got := run(t, l.client("-S", control, "guest", script)); got != want {
				t.Errorf("command %d: %d bytes, %q, %d", i, len(got.stdout), got.stderr, got.code)
			}
		})
		clients.Go(func() { pids[i] = l.cutCommand(t, control) })
	}
	clients.Wait()
	for _, pid := range pids {
		if pid == 0 {
			continue // has failed
		}
		eventually(t, "a command that was cut has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
	eventually(t, "no session is left", l.server.sessions.unused)
	if got := run(t, l.client("-S", control, "guest", "echo still there")); got.stdout != "still there\n" {
		t.Errorf("after all that: %+v", got)
	}
	_ = master.Process.Kill()
	_ = master.Wait()
	l.quiet()
}

// cutCommand starts a command that would go on, kills its client when it runs,
// and returns the command's pid.
func (l *lab) cutCommand(t *testing.T, control string) int {
	cmd := l.client("-S", control, "guest", "echo $$; exec cat /dev/zero")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return 0
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return 0
	}
	line, err := bufio.NewReader(io.LimitReader(out, 64)).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, convErr); err != nil {
		t.Errorf("a command to cut: %v", err)
	}
	return pid
}
