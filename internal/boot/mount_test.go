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
