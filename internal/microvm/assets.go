//go:build linux

package microvm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrUnavailable is wrapped by the errors of [Available] and [Start] where this
// machine lacks something that `make setup-vm` installs.
var ErrUnavailable = errors.New("no microVM on this machine, run `make setup-vm`")

// assets are the files of this machine that a VM is made of.
type assets struct {
	qemu    string
	kernel  string
	modules string // directory with modules.dep
	busybox string
	bash    string
	vsock   string // vhost-device-vsock; "" where the kernel does it
	accel   Acceleration
}

// Available returns nil if [Start] finds everything it needs, or an error that
// wraps [ErrUnavailable] and names all that is missing.
func Available() error {
	_, err := findAssets()
	return err
}

// findAssets looks into .vm and .tools of the checkout, where `make setup-vm`
// puts things, then into the system.
func findAssets() (assets, error) {
	a := assets{accel: Choose()}
	var missing []string
	need := func(what string, candidates ...string) string {
		for _, name := range candidates {
			if found, err := exec.LookPath(name); err == nil {
				return found
			}
		}
		missing = append(missing, what)
		return ""
	}
	root := checkout()
	a.qemu = need("qemu-system-x86_64", "qemu-system-x86_64")
	a.busybox = need("a static busybox", "/bin/busybox", "busybox")
	a.bash = need("a static bash", "/bin/bash-static", "bash-static")
	if a.accel == TCG {
		a.vsock = need("vhost-device-vsock", filepath.Join(root, ".tools/bin/vhost-device-vsock"), "vhost-device-vsock")
	}
	var err error
	if a.kernel, a.modules, err = findKernel(root); err != nil {
		missing = append(missing, "a kernel ("+err.Error()+")")
	}
	if len(missing) > 0 {
		return a, fmt.Errorf("%w (missing: %s)", ErrUnavailable, strings.Join(missing, ", "))
	}
	return a, nil
}

// findKernel returns an image and the directory of its modules.
func findKernel(root string) (image, modules string, err error) {
	image = filepath.Join(root, ".vm/vmlinuz")
	version, err := os.ReadFile(filepath.Join(root, ".vm/version"))
	if err != nil {
		return "", "", err
	}
	modules = filepath.Join(root, ".vm/modules", strings.TrimSpace(string(version)))
	for _, path := range []string{image, filepath.Join(modules, "modules.dep")} {
		if _, err := os.Stat(path); err != nil {
			return "", "", err
		}
	}
	return image, modules, nil
}

// checkout returns the directory above the working directory that is this
// repository, or the working directory itself. GUESTD_CHECKOUT overrides it,
// for binaries that run elsewhere.
func checkout() string {
	if dir := os.Getenv("GUESTD_CHECKOUT"); dir != "" {
		return dir
	}
	start, err := os.Getwd()
	if err != nil {
		return "."
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return start
		}
	}
}
