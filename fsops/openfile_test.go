//go:build linux

package fsops

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeedsMoreThanFree: what cannot fit is known without asking for it, and
// what might fit is never refused.
func TestNeedsMoreThanFree(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
		t.Fatal(err)
	}
	if disk.Blocks == 0 {
		t.Skip("the file system has no limit of its own")
	}
	free := int64(disk.Blocks) * disk.Frsize // at most
	check := func(what string, offset, size int64, want bool) {
		t.Helper()
		if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
			t.Fatal(err)
		}
		if got := needsMoreThanFree(&disk, int(f.Fd()), offset, size); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	check("a byte", 0, 1, false)
	check("more than the disk", 0, 2*free, true)
	check("behind a hole", 4*free, 1, false)
	check("an offset beyond all", math.MaxInt64-1, 1, false)
	check("an end beyond all", math.MaxInt64-1, 2*free, false) // fallocate(2) says EFBIG
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	check("what is there", 0, 1<<20, false)
	check("more than the disk behind it", 1<<20, 2*free, true)
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	check("into holes", 0, 2*free, false)
}
