//go:build linux

package microvm

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The users of every guest: root, an ordinary user with a supplementary group,
// and nobody.
const (
	guestPasswd = "root:x:0:0:root:/root:/bin/bash\n" +
		"ann:x:1000:1000:Ann:/home/ann:/bin/bash\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	guestGroup = "root:x:0:\ntty:x:5:\nann:x:1000:\nstaff:x:50:ann\nnogroup:x:65534:\n"
	guestHosts = "127.0.0.1 localhost\n::1 localhost\n"
)

// annID is ann's uid and gid above.
const annID = 1000

// virtioModules are always in the image: what guestd loads at boot by itself,
// and the loopback transport for tests inside of the guest.
func virtioModules() []string {
	return []string{"virtio_mmio", "virtio_pci", "vmw_vsock_virtio_transport", "vsock_loopback", "vsock_diag"}
}

// buildInitramfs writes the root file system of a guest to the file name.
func buildInitramfs(name string, cfg Config, a assets) (err error) {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	image := newArchive(out)
	addSkeleton(image)
	image.file("/init", 0o755, cfg.Guestd)
	image.symlink("/usr/bin/guestd", "../../init")
	image.file("/bin/bash", 0o755, a.bash)
	if err := addBusybox(image, a.busybox); err != nil {
		return err
	}
	if err := addModules(image, a.modules, append(virtioModules(), cfg.moduleNames()...)); err != nil {
		return err
	}
	for _, guest := range slices.Sorted(maps.Keys(cfg.ExtraFiles)) {
		info, err := os.Stat(cfg.ExtraFiles[guest])
		if err != nil {
			return err
		}
		image.file(guest, uint32(info.Mode().Perm()), cfg.ExtraFiles[guest])
	}
	return image.close()
}

// addSkeleton adds directories, users, and the two devices that a program
// needs before anything is mounted.
func addSkeleton(image *archive) {
	for _, dir := range []string{"/bin", "/dev", "/etc", "/home", "/proc", "/run", "/sys", "/usr/bin", "/usr/sbin", "/var/tmp"} {
		image.directory(dir, 0o755)
	}
	image.directory("/root", 0o700)
	image.owner = annID
	image.directory("/home/ann", 0o755)
	image.owner = 0
	image.symlink("/sbin", "bin")
	image.symlink("/var/run", "/run")
	image.character("/dev/console", 0o600, 5, 1)
	image.character("/dev/null", 0o666, 1, 3)
	image.bytes("/etc/passwd", 0o644, guestPasswd)
	image.bytes("/etc/group", 0o644, guestGroup)
	image.bytes("/etc/hosts", 0o644, guestHosts)
	image.bytes("/etc/hostname", 0o644, "guest\n")
}

// addBusybox adds busybox and a link for each of its applets.
func addBusybox(image *archive, busybox string) error {
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	image.file("/bin/busybox", 0o755, busybox)
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" && applet != "bash" && applet != "init" {
			image.symlink("/bin/"+applet, "busybox")
		}
	}
	// Programs that scripts name by their usual path.
	image.symlink("/usr/bin/env", "../../bin/busybox")
	return nil
}

// moduleNames are Config.Modules without the mark.
func (cfg Config) moduleNames() []string {
	names := make([]string, 0, len(cfg.Modules))
	for _, name := range cfg.Modules {
		names = append(names, strings.TrimSuffix(name, "!"))
	}
	return names
}

// loadedModules are those of Config.Modules that are marked.
func (cfg Config) loadedModules() []string {
	var names []string
	for _, name := range cfg.Modules {
		if name, marked := strings.CutSuffix(name, "!"); marked {
			names = append(names, name)
		}
	}
	return names
}

// addModules adds the named modules of the kernel in dir and what they depend
// on, with a modules.dep of just those. A name that the kernel does not know is
// an error: the guest would miss it much later.
func addModules(image *archive, dir string, names []string) error {
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	lines := make(map[string]string) // by module name
	for line := range strings.Lines(string(text)) {
		file, _, _ := strings.Cut(line, ":")
		lines[moduleName(file)] = line
	}
	guestDir := path.Join("/lib/modules", filepath.Base(dir))
	added := make(map[string]bool)
	var index strings.Builder
	for todo := slices.Clone(names); len(todo) > 0; todo = todo[1:] {
		name := moduleName(todo[0])
		line, known := lines[name]
		if !known {
			return fmt.Errorf("no module %s in %s", todo[0], dir)
		}
		if added[name] {
			continue
		}
		added[name] = true
		file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		image.file(path.Join(guestDir, file), 0o644, filepath.Join(dir, file))
		index.WriteString(line)
		todo = append(todo, strings.Fields(needs)...)
	}
	image.bytes(path.Join(guestDir, "modules.dep"), 0o644, index.String())
	return nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
