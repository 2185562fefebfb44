//go:build linux

package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/microvm"
)

// What guestd as PID 1 has made of the machine.
func TestInit(t *testing.T) {
	c := connect(t, requireVM(t))
	tests := []struct{ name, script, want string }{
		{"PID 1 is guestd", "tr '\\0' ' ' < /proc/1/cmdline", "/init"},
		{"the agent is its child", "cut -d' ' -f4 /proc/$PPID/stat", "1"},
		{"mounts", "for m in /proc /sys /dev /dev/pts /dev/shm /run /sys/fs/cgroup; do grep -q \" $m \" /proc/mounts || echo $m; done", ""},
		{"links", "for l in fd stdin stdout stderr; do readlink /dev/$l; done",
			"/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2"},
		{"terminals for everybody", "test -c /dev/ptmx && stat -L -c %a /dev/ptmx", "666"},
		{"a place for temporary files", "stat -c %a /tmp", "1777"},
		{"hostname", "hostname", "guest"},
		{"loopback", "ping -c 1 127.0.0.1 >/dev/null && echo up", "up"},
		{"cgroups of PID 1 and the agent", "cat /proc/1/cgroup /proc/$PPID/cgroup", "0::/init\n0::/guestd"},
		{"processes have theirs", "case $(cat /proc/self/cgroup) in 0::/workload/?*) echo yes;; esac", "yes"},
		{"the agent is protected, processes are not", "test $(cat /proc/$PPID/oom_score_adj) -le -900 && cat /proc/self/oom_score_adj", "0"},
		{"the agent's memory is not taken back", "cat /sys/fs/cgroup/guestd/memory.min", "67108864"},
		{"descriptors", "ulimit -Sn; ulimit -Hn; grep -c '^Max open files  *52428[78] ' /proc/$PPID/limits", "1024\n524288\n1"},
		{"no step of booting failed", "dmesg | grep 'boot step failed' || true", ""},
		{"bash", "bash -c 'a=(x y); echo ${a[1]}'", "y"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sh(t, c, tt.script); got != tt.want {
				t.Errorf("%s\n got %q\nwant %q", tt.script, got, tt.want)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	vm := requireVM(t)
	info, err := connect(t, vm).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.GetHostname() != "guest" || info.GetAgentParentPid() != 1 || info.GetVsockCid() != vm.CID() {
		t.Errorf("host name %q, parent %d, CID %d, want CID %d",
			info.GetHostname(), info.GetAgentParentPid(), info.GetVsockCid(), vm.CID())
	}
	capabilities := info.GetCapabilities()
	if !capabilities.GetCgroupKill() || !capabilities.GetSwitchUser() {
		t.Errorf("capabilities: %v", capabilities)
	}
	for _, want := range []string{"memory", "pids", "cpu"} {
		if !strings.Contains(strings.Join(capabilities.GetCgroupControllers(), " "), want) {
			t.Errorf("no %s among %v", want, capabilities.GetCgroupControllers())
		}
	}
}

// The agent's port is for the host alone: a process of the guest that dials it
// over the loopback transport gets nothing.
func TestGuestCannotReachTheAgent(t *testing.T) {
	c := connect(t, requireVM(t))
	if got := sh(t, c, "test -d /sys/module/vsock_loopback && guestctl --agent vsock:1:1024 info 2>&1"); !strings.Contains(got, "(") ||
		strings.Contains(got, "api") {
		t.Errorf("guestctl in the guest: %s", got)
	}
	if got := sh(t, c, "echo still here"); got != "still here" {
		t.Errorf("the agent after that: %s", got)
	}
}

// An agent that dies is started again, and the host's client finds it.
func TestAgentIsRestarted(t *testing.T) {
	vm := ownVM(t, microvm.Config{Memory: 512})
	c := connect(t, vm)
	before := sh(t, c, "echo $PPID")
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	_ = c.Command("/bin/sh", "-c", "kill -9 $PPID").Run(ctx) // nobody is left to say how it ended
	for {
		info, err := c.Info(ctx)
		if err == nil {
			if after := sh(t, c, "echo $PPID"); after == before || info.GetAgentParentPid() != 1 {
				t.Errorf("agent before %s, after %s: %v", before, after, info)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("no agent: %v", err)
		}
	}
	if got := sh(t, c, "cat /proc/$PPID/cgroup"); got != "0::/guestd" {
		t.Errorf("the new agent's cgroup: %s", got)
	}
}

// The guest ends as busybox's tools ask PID 1 to, and the host's connections
// end with it.
func TestPowerOff(t *testing.T) {
	for _, how := range []string{"poweroff", "reboot"} {
		t.Run(how, func(t *testing.T) {
			vm := ownVM(t, microvm.Config{Memory: 512, CPUs: 1})
			c := connect(t, vm)
			conn, err := dialer(t, vm)(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
			defer cancel()
			_ = c.Command(how).Run(ctx)
			if err := vm.Wait(ctx); err != nil {
				t.Fatalf("the guest did not end: %v", err)
			}
			_ = conn.SetDeadline(time.Now().Add(answerLimit))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection outlived the guest")
			}
			if strings.Contains(vm.Console(), "Kernel panic") {
				t.Errorf("console:\n%s", vm.Console())
			}
		})
	}
}
