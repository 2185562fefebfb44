//go:build linux

package boot

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMakeTmp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tmp")
	old := syscall.Umask(0o077)
	err := makeTmp(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeDir|tmpMode {
		t.Errorf("%v, %v", info, err)
	}
	// One that is there is left as it is.
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := makeTmp(path); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := makeTmp(filepath.Join(path, "missing", "tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a parent: %v", err)
	}
}

// What cannot be written to gets a file system that can.
func TestMakeTmpOnAReadOnlyRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system")
	}
	root := t.TempDir()
	if err := tmpfs(root, tmpSize).mount(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) }()
	path := filepath.Join(root, "tmp")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := makeTmp(path); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeDir|tmpMode {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(path, "x"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := syscall.Unmount(path, 0); err != nil {
		t.Error(err)
	}
	if err := syscall.Unmount(path, 0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("mounted twice: %v", err)
	}
}
