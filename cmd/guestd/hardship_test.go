//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	"github.com/guestd/guestd/internal/hungfs"
)

// An agent ends, and its processes with it, although a call to a file system
// that does not answer never does.
func TestEndsInSpiteOfHungFileSystem(t *testing.T) {
	hung, _ := hungfs.Mount(t)
	a := startAgent(t, "")
	process, err := a.client.Start(a.ctx, client.Spec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	// So many that every thread hangs which is used for calls: the kernel gives
	// SIGTERM to the first thread, and to no other if that one hangs.
	const calls = 32
	for range calls {
		go func() { _, _ = a.client.Files().Stat(a.ctx, hung+"/x") }()
	}
	for hangs := 0; hangs < calls && a.ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		hangs = 0
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", a.cmd.Process.Pid))
		for _, thread := range threads {
			if status, _ := os.ReadFile(thread); bytes.Contains(status, []byte("\nState:\tD")) {
				hangs++
			}
		}
	}
	c := a.ssh()
	go func() { _, _ = c.Dial("unix", hung+"/socket") }()
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Fatal(err)
	}
	state, log := a.end()
	if a.ctx.Err() != nil {
		t.Errorf("it did not end: %v\n%s", state, log)
	}
	if err := syscall.Kill(process.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("its process has not ended: %v", err)
	}
}

// SSH clients that take all that they get leave descriptors to the host.
func TestSSHLeavesDescriptors(t *testing.T) {
	a := startAgent(t, "ulimit -n 256")
	for range 4 {
		c := a.ssh()
		for {
			ch, requests, err := c.OpenChannel("session", nil)
			if err != nil {
				break
			}
			go func() {
				for range requests { // nobody answers them
				}
			}()
			if _, err := ch.SendRequest("exec", true, []byte("\x00\x00\x00\x0asleep 1000")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := a.sh("echo alive"); got != "alive" {
		t.Errorf("got %q", got)
	}
	const used = "ls /proc/$PPID/fd | wc -l"
	t.Logf("%s descriptors in use", a.sh(used))
	if _, log := a.end(); strings.Contains(log, "too many open files") {
		t.Error(log)
	}
}
