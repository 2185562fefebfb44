//go:build linux

package e2e

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/internal/microvm"
)

// testGrants comes in with keys that are good once, and not at all.
func (h *sshHost) testGrants(t *testing.T) {
	key := h.newKey(t, "once")
	h.refused(t, key)
	id := strings.TrimSpace(h.succeed(t, h.guestctl("grant", "--key", key+".pub", "-u", "ann")))
	if got := h.succeed(t, h.with(key, "id -un")); got != "ann\n" {
		t.Errorf("the session is %q's", got)
	}
	h.refused(t, key)
	if got := h.succeed(t, h.guestctl("grants", "-q")); strings.Contains(got, id) {
		t.Errorf("grant %s is used up, and listed: %s", id, got)
	}
	h.refused(t, h.newKey(t, "unknown"))
}

// testRevokedSession ends the sessions of a grant by taking it back.
func (h *sshHost) testRevokedSession(t *testing.T) {
	key := h.newKey(t, "revoked")
	h.succeed(t, h.guestctl("grant", "--key", key+".pub", "-u", "ann", "--id", "e2e-revoked", "--connections", "unlimited"))
	session := h.with(key, "echo in; exec cat")
	if _, err := session.StdinPipe(); err != nil { // which stays open
		t.Fatal(err)
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "in\n" {
		h.end(t, session)
		t.Fatalf("the session says %q, %v", line, err)
	}
	revoke := h.guestctl("revoke", "e2e-revoked")
	start := time.Now()
	h.succeed(t, revoke)
	h.wait(t, session)
	t.Logf("the session ended %v after `guestctl revoke` began", time.Since(start).Round(time.Millisecond))
	if code := session.ProcessState.ExitCode(); code != 255 {
		t.Errorf("status %d", code)
	}
	h.refused(t, key)
}

// refused tries a key that must not come in.
func (h *sshHost) refused(t *testing.T, key string) {
	t.Helper()
	if got := h.run(t, nil, h.with(key, "echo in")); got.code != 255 || got.stdout != "" || !strings.Contains(got.stderr, "Permission denied") {
		t.Errorf("with %s: %+v", filepath.Base(key), got)
	}
}

// with is ssh with a key, and nothing else to come in by.
func (h *sshHost) with(key, script string) *exec.Cmd {
	return h.command("ssh", "-F", "none", "-o", "ProxyCommand='"+built.guestctl+"' ssh-proxy '"+h.vm.Addr(microvm.PortSSH)+"'",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
		"-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", "-i", key, "ann@vm", script)
}

// newKey makes a key and returns the path of its private half.
func (h *sshHost) newKey(t *testing.T, comment string) string {
	t.Helper()
	path := filepath.Join(h.dir, "key-"+strings.ReplaceAll(comment, " ", "-"))
	h.succeed(t, h.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path))
	return path
}

// traces are what sessions could leave in the guest.
type traces struct {
	system string // processes, terminals, files and sockets, as text

	running, fds, connections, goroutines uint32 // of the agent
}

// listTraces leaves out the kernel's own threads, which have no program, and the
// shell that runs it.
const listTraces = `for p in /proc/[0-9]*; do test $p = /proc/$$ || readlink $p/exe; done | sort
	ls -A /dev/pts /tmp /home/ann /root /run
	awk 'FNR > 1 && $8 { print $8 }' /proc/net/unix | sort
	awk 'FNR > 1 && $4 != "06" { print FILENAME, $2, $3, $4 }' /proc/net/tcp /proc/net/tcp6 | sort` // 06 is TIME_WAIT

func (h *sshHost) traces(t *testing.T) traces {
	t.Helper()
	system := sh(t, h.client, listTraces)
	metrics, err := h.client.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return traces{
		system: system, running: metrics.GetProcessesRunning(), fds: metrics.GetOpenFds(),
		connections: metrics.GetConnections(), goroutines: metrics.GetGoroutines(),
	}
}

// testTraces waits for the guest to be as it was: what ends with a connection
// ends a little after it.
func (h *sshHost) testTraces(t *testing.T, before traces) {
	for _, list := range []string{"sessions", "ps", "grants"} {
		got := h.succeed(t, h.guestctl(list, "-q"))
		if list == "grants" { // that of ssh-config is to stay for its hours
			h.succeed(t, h.guestctl(append([]string{"revoke"}, strings.Fields(got)...)...))
			continue
		}
		until(t, "no "+list, func() bool { return h.succeed(t, h.guestctl(list, "-q")) == "" })
	}
	var now traces
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	for ctx.Err() == nil {
		// The counts may only go down: what began with the first session may have
		// ended since.
		now = h.traces(t)
		if now.system == before.system && now.running <= before.running && now.fds <= before.fds &&
			now.connections <= before.connections && now.goroutines <= before.goroutines {
			return
		}
	}
	t.Errorf("the guest was\n%+v\nand is\n%+v", before, now)
}
