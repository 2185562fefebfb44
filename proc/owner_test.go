//go:build linux

package proc_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/guestd/guestd/proc"
)

func TestOwner(t *testing.T) {
	for _, cgroup := range []string{"", "none"} {
		table, err := proc.NewTable(proc.Config{Cgroup: cgroup})
		if err != nil {
			t.Fatal(err)
		}
		// A child of the process is in its tree, too.
		p, sub, _, err := table.StartAttached(t.Context(), proc.Spec{Args: []string{"sh", "-c", "sleep 1000 & echo $!; wait"}}, proc.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := sub.Next(t.Context(), make([]byte, 100))
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(ev.Data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range []int{p.PID(), child} {
			if owner, ok := table.Owner(pid); !ok || owner != p {
				t.Errorf("cgroup %q: pid %d is of %v, %v", cgroup, pid, owner, ok)
			}
		}
		for _, pid := range []int{os.Getpid(), 1, 1 << 30} {
			if owner, ok := table.Owner(pid); ok {
				t.Errorf("cgroup %q: pid %d is of %v", cgroup, pid, owner)
			}
		}
		_ = sub.Close()
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}
