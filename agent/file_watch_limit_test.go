//go:build linux

package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// watchLimitHelper is set for the process that TestFileWatchLimit starts.
const watchLimitHelper = "GUESTD_TEST_WATCH_LIMIT"

// TestFileWatchLimit runs out of inotify watches. The kernel counts them for
// each user of each user namespace, and a namespace may lower its own limit: so
// the test goes on in a process in one of its own.
func TestFileWatchLimit(t *testing.T) {
	if os.Getenv(watchLimitHelper) != "" {
		testWatchLimit(t)
		return
	}
	cmd := exec.CommandContext(testContext(t), "/proc/self/exe", "-test.run=^TestFileWatchLimit$", "-test.v")
	cmd.Env = append(os.Environ(), watchLimitHelper+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skipf("SKIP: no user namespace: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "SKIP"):
		t.Skip(string(out))
	}
}

func testWatchLimit(t *testing.T) {
	const limit = "/proc/sys/user/max_inotify_watches"
	if err := os.WriteFile(limit, []byte("3"), 0); err != nil {
		t.Skipf("SKIP: cannot lower the limit: %v", err)
	}
	c := serveFiles(t)
	ctx := testContext(t)
	dir := filepath.Join(c.dir, "tree")
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c/d"), 0o755))

	// Four directories are one too many, and the three watches are given back.
	stream, err := c.Watch(ctx, &guestdv1.WatchRequest{Path: dir, Recursive: true})
	must(t, err)
	_, err = stream.Recv()
	wantFailure(t, err, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "path", dir)
	if err == nil || !strings.Contains(err.Error(), "max_user_watches") {
		t.Errorf("the error does not say what to raise: %v", err)
	}

	// What comes when all are used is not lost without a word.
	must(t, os.RemoveAll(filepath.Join(dir, "a/b/c")))
	w, ready := c.watch(t, ctx, &guestdv1.WatchRequest{Path: dir, Recursive: true})
	if ready.GetDirectories() != 3 {
		t.Errorf("%d directories are watched", ready.GetDirectories())
	}
	must(t, os.Mkdir(filepath.Join(dir, "late"), 0o755))
	w.until(t, "CREATED late/")
	w.until(t, "OVERFLOW")
	must(t, os.WriteFile(filepath.Join(dir, "a/file"), nil, 0o644))
	w.until(t, "CREATED a/file")
}
