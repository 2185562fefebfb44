//go:build linux

// Package hungfs is for tests: a file system that never answers, as one whose
// server is stuck.
package hungfs

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts one for the rest of the test and returns its directory. Every
// call about what is below it waits, until release is called, or the test ends:
// it fails then. A test that may not mount is skipped.
func Mount(t testing.TB) (dir string, release func()) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EACCES) {
		t.Skipf("SKIP: needs FUSE: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)
	if err := unix.Mount("hungfs", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(device)
		t.Skipf("SKIP: needs to mount FUSE, as root: %v", err)
	}
	// Without its device the kernel gives the file system up.
	release = func() {
		if device >= 0 {
			_ = unix.Close(device)
			device = -1
		}
	}
	t.Cleanup(func() {
		release()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return dir, release
}
