//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopbackUp brings lo up; the kernel then gives it 127.0.0.1 and ::1.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	if request.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

// setHostname sets name, or that of /etc/hostname, or "localhost" where the
// kernel still has the "(none)" it starts with.
func setHostname(name string) error {
	if name == "" {
		text, err := os.ReadFile("/etc/hostname")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		name, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
	}
	if !validHostname(name) {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil || unix.ByteSliceToString(uts.Nodename[:]) != "(none)" {
			return err
		}
		name = "localhost"
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname %q: %w", name, err)
	}
	return nil
}

// Limits of descriptors for all that is started, systemd's: programs that use
// select(2) cannot use more than the soft one, and whoever wants more may raise
// it. The kernel's own hard limit, 4096, is too low for an agent of a thousand
// processes.
const softDescriptors, hardDescriptors = 1024, 512 << 10

func raiseDescriptors() error {
	limit := syscall.Rlimit{Cur: softDescriptors, Max: hardDescriptors}
	// Not package unix's: this one also tells the runtime what children get.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of descriptors: %w", err)
	}
	return nil
}

// keepCtrlAltDel makes Ctrl-Alt-Del, which VMMs send to ask for an end, a
// SIGINT to PID 1 instead of an immediate reset by the kernel.
func keepCtrlAltDel() error {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("take over ctrl-alt-del: %w", err)
	}
	return nil
}
