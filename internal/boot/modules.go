//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesRoot is where modprobe(8) looks as well.
const modulesRoot = "/lib/modules"

// vsockModules are what reaches the host: the buses a virtio device can be on,
// and the transport. vsock_loopback is left out: it would only give the
// guest's own processes a way to the agent's port.
func vsockModules() []string {
	modules := []string{"virtio_mmio", "vmw_vsock_virtio_transport"}
	// A microvm has no PCI, and each module costs milliseconds.
	if devices, err := os.ReadDir("/sys/bus/pci/devices"); err == nil && len(devices) > 0 {
		modules = append(modules, "virtio_pci")
	}
	return modules
}

// loadModules loads each module after those it depends on. A kernel without
// modules, and a name which this kernel does not have, are no failures: the
// function may as well be built in.
func loadModules(names []string) (failures []error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []error{err}
	}
	dir := path.Join(modulesRoot, unix.ByteSliceToString(uts.Release[:]))
	text, err := os.ReadFile(path.Join(dir, "modules.dep"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []error{err}
	}
	for _, file := range parseModulesDep(string(text)).order(names) {
		failures = append(failures, insertModule(path.Join(dir, file)))
	}
	return failures
}

// moduleIndex is a modules.dep(5): where each module is, and what it needs.
type moduleIndex map[string]module

type module struct {
	file  string   // relative to the kernel's module directory
	needs []string // names
}

func parseModulesDep(text string) moduleIndex {
	index := make(moduleIndex)
	for line := range strings.Lines(text) {
		file, rest, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found || file == "" {
			continue
		}
		m := module{file: file}
		for need := range strings.FieldsSeq(rest) {
			m.needs = append(m.needs, moduleName(need))
		}
		index[moduleName(file)] = m
	}
	return index
}

// moduleName is the name by which the kernel knows the module in a file:
// without directory and suffixes, '-' being the same as '_'.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// order returns the files to load for the named modules: each once, and after
// everything it needs. Names that the index lacks are passed over, and a cycle,
// which no kernel has but a damaged file may, is cut.
func (index moduleIndex) order(names []string) (files []string) {
	seen := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		name = moduleName(name)
		m, known := index[name]
		if !known || seen[name] {
			return
		}
		seen[name] = true
		for _, need := range m.needs {
			add(need)
		}
		files = append(files, m.file)
	}
	for _, name := range names {
		add(name)
	}
	return files
}

// insertModule loads one file. A compressed one is left to the kernel to
// unpack (since 5.17, for the format it was configured with).
func insertModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return fmt.Errorf("load module %s: %w", file, err)
}
