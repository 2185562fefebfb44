//go:build linux

package nsbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Places inside of the box.
const (
	guestdPath = "/init"
	portsPath  = "/run/guestd"
)

// annID is the ordinary user's uid and gid.
const annID = 1000

// The box's own /etc. What else programs need there comes from the host.
const (
	boxPasswd = "root:x:0:0:root:/root:/bin/bash\n" +
		"ann:x:1000:1000:Ann:/home/ann:/bin/bash\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	boxGroup = "root:x:0:\ntty:x:5:\nstaff:x:50:ann\nann:x:1000:\nnogroup:x:65534:\n"
	boxHosts = "127.0.0.1 localhost\n::1 localhost\n"
)

// hostDirs are the host's programs. Where one is a symlink (/bin → usr/bin),
// so it is in the box.
func hostDirs() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
}

// hostEtc is what programs need of the host's /etc, and no secret is in.
func hostEtc() []string {
	return []string{"/etc/alternatives", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/ld.so.conf",
		"/etc/ld.so.conf.d", "/etc/localtime", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services",
		"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/terminfo"}
}

// buildRoot mounts the box's root on p.Root and enters it. It runs in the new
// namespaces with all rights in them.
func buildRoot(p plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	r := root{dir: p.Root}
	r.mount("tmpfs", "/", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	for _, dir := range hostDirs() {
		r.fromHost(dir)
	}
	r.mount("proc", "/proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	r.devices(p.Single)
	r.mount("tmpfs", "/run", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	r.mount("tmpfs", "/tmp", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	r.directory(portsPath, 0o700)
	r.bind(p.Ports, portsPath, false)
	r.etc(p.Hostname)
	r.homes(p.Single)
	r.file(guestdPath, "")
	r.bind(p.Guestd, guestdPath, true)
	if r.err != nil {
		return fmt.Errorf("build root: %w", r.err)
	}
	// The host's sysfs may be hidden in part, and then the kernel refuses a new
	// one. The box does without.
	if r.mount("sysfs", "/sys", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, ""); r.err != nil {
		fmt.Fprintln(os.Stderr, "nsbox: no /sys:", r.err)
	}
	return enter(p.Root)
}

// enter makes dir the root and lets go of the old one.
func enter(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	// Both in one place: the old root is then on top of the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	return os.Chdir("/")
}

// root is a tree under construction. Its methods do nothing after the first
// error.
type root struct {
	dir string
	err error
}

func (r *root) fail(what string, err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (r *root) directory(path string, perm fs.FileMode) {
	if r.err == nil {
		r.fail("mkdir", os.MkdirAll(filepath.Join(r.dir, path), perm))
	}
}

func (r *root) file(path, content string) {
	r.directory(filepath.Dir(path), 0o755)
	if r.err == nil {
		r.fail("write", os.WriteFile(filepath.Join(r.dir, path), []byte(content), 0o644))
	}
}

func (r *root) symlink(target, path string) {
	if r.err == nil {
		r.fail("symlink", os.Symlink(target, filepath.Join(r.dir, path)))
	}
}

func (r *root) mount(kind, path string, flags uintptr, options string) {
	r.directory(path, 0o755)
	if r.err == nil {
		r.fail("mount "+path, unix.Mount(kind, filepath.Join(r.dir, path), kind, flags, options))
	}
}

// bind shows a directory or file of the host at a path that exists.
func (r *root) bind(host, path string, readOnly bool) {
	if r.err != nil {
		return
	}
	target := filepath.Join(r.dir, path)
	// Recursive, as the kernel does not let us uncover what lies below a mount.
	if err := unix.Mount(host, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		r.fail("bind "+host, err)
		return
	}
	if readOnly {
		r.fail("bind read-only "+host, unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE,
			&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
	}
}

// fromHost shows a directory or file of the host at its own path, read-only,
// if there is one.
func (r *root) fromHost(path string) {
	info, err := os.Lstat(path)
	if r.err != nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.fail("host", err)
		return
	}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		r.fail("host", err)
		r.directory(filepath.Dir(path), 0o755)
		r.symlink(target, path)
	case fs.ModeDir:
		r.directory(path, 0o755)
		r.bind(path, path, true)
	case 0:
		r.file(path, "")
		r.bind(path, path, true)
	}
}

// devices makes a /dev with what every program may use.
func (r *root) devices(single bool) {
	r.mount("tmpfs", "/dev", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		// Making a device node is not for a user namespace, showing one is.
		r.file("/dev/"+name, "")
		r.bind("/dev/"+name, "/dev/"+name, false)
	}
	options := "newinstance,ptmxmode=0666,mode=620"
	if !single {
		options += ",gid=5"
	}
	r.mount("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, options)
	r.symlink("pts/ptmx", "/dev/ptmx")
	r.mount("tmpfs", "/dev/shm", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

func (r *root) etc(hostname string) {
	r.file("/etc/passwd", boxPasswd)
	r.file("/etc/group", boxGroup)
	r.file("/etc/hosts", boxHosts+"127.0.1.1 "+hostname+"\n")
	r.file("/etc/hostname", hostname+"\n")
	for _, path := range hostEtc() {
		r.fromHost(path)
	}
}

// homes makes the directories that can be written to.
func (r *root) homes(single bool) {
	r.directory("/root", 0o700)
	r.directory("/home/ann", 0o755)
	r.directory("/var/tmp", 0o755)
	if r.err == nil {
		r.fail("chmod", os.Chmod(filepath.Join(r.dir, "/var/tmp"), 0o777|fs.ModeSticky))
	}
	if r.err == nil && !single {
		r.fail("chown", os.Chown(filepath.Join(r.dir, "/home/ann"), annID, annID))
	}
}
