package vsock

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A real process of another user gets as far as the file's mode lets it, and
// is turned away.
func TestHostOnlyRefusesAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start a process of another user")
	}
	path := socketPath(t)
	dir := filepath.Dir(path)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := copyTestBinary(t, dir)
	l, err := ListenConfig{Mode: 0o666}.Listen(t.Context(), Addr{Transport: Unix, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	hl := HostOnly(l, Policy{})
	ended := make(chan error, 1)
	go func() {
		_, err := hl.Accept()
		ended <- err
	}()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{dialAsOther + "=" + path}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("dialer: %v\n%s", err, out)
	}
	_ = hl.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) || hl.Refused() != 1 {
		t.Errorf("accept: %v, %d refused", err, hl.Refused())
	}
}

// copyTestBinary puts this program where any user can run it: go test builds
// it in a directory of its own.
func copyTestBinary(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "dialer")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}
