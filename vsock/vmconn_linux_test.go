package vsock

import (
	"os"
	"syscall"
	"testing"
)

// A socket of another family stands for one of AF_VSOCK: the kernel's two
// answers are the same.
func TestIsCut(t *testing.T) {
	unconnected, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("no IPv4: ", err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(pair[1]); err != nil {
		t.Fatal(err)
	}
	for fd, want := range map[int]bool{unconnected: true, pair[0]: false} {
		f := os.NewFile(uintptr(fd), "socket")
		rc, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if got := isCut(rc); got != want {
			t.Errorf("isCut(%d) = %v", fd, got)
		}
		_ = f.Close()
		if isCut(rc) {
			t.Error("a closed socket counts as cut")
		}
	}
}
