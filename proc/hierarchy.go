//go:build linux

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// treePrefix begins the name of a table's directory in the hierarchy.
const treePrefix = "guestd-"

// wantedControllers are those that Limits needs.
var wantedControllers = []string{"cpu", "memory", "pids"}

// A hierarchy is a table's part of the cgroup2 hierarchy: a directory below
// the agent's own cgroup that holds a cgroup for each process.
//
// Its directory stays locked (flock) while the table lives. So a table knows
// the leftovers of an agent that died from the directory of one that lives,
// and ends what is in them: nobody can reach those processes any more.
type hierarchy struct {
	dir         string
	lock        *os.File
	controllers []string // enabled for the processes' cgroups, sorted
	hasKill     bool
	above       []*os.File // memory.events.local of dir and its ancestors
}

// newHierarchy makes the table's directory below parent.
func newHierarchy(parent, name string, log *slog.Logger) (*hierarchy, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(parent, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: parent, Err: err}
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("%s: not a cgroup2 directory", parent)
	}
	// Two agents that begin at once must not take each other's new
	// directory for a leftover.
	gate, err := lockDir(parent, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer func() { _ = gate.Close() }()
	sweep(parent, log)
	h := &hierarchy{dir: filepath.Join(parent, treePrefix+name)}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		return nil, err
	}
	if h.lock, err = lockDir(h.dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = os.Remove(h.dir)
		return nil, err
	}
	enableControllers(parent, log)
	h.controllers = enableControllers(h.dir, log)
	_, err = os.Stat(filepath.Join(h.dir, "cgroup.kill"))
	h.hasKill = err == nil
	h.openAbove()
	return h, nil
}

func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return f, nil
}

// sweep removes the directories of agents that have died.
func sweep(parent string, log *slog.Logger) {
	dirs, _ := filepath.Glob(filepath.Join(parent, treePrefix+"*"))
	for _, dir := range dirs {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue
		}
		log.Warn("ending the processes of an agent that died", "cgroup", dir)
		c := cgroup{dir: dir, hasKill: true}
		_ = c.kill()
		_ = c.removeSoon()
		_ = lock.Close()
	}
}

// enableControllers passes the controllers that Limits needs on to the
// children of dir, and returns those that they have then. The kernel refuses
// (EBUSY) where processes live in dir itself, unless it is the root: the agent
// then moves itself into a leaf of its own, as a delegated unit is meant to.
func enableControllers(dir string, log *slog.Logger) []string {
	have := readFields(filepath.Join(dir, "cgroup.controllers"))
	for _, c := range wantedControllers {
		if !slices.Contains(have, c) {
			continue
		}
		err := writeControl(dir, "cgroup.subtree_control", "+"+c)
		if errors.Is(err, unix.EBUSY) && moveSelf(dir) {
			err = writeControl(dir, "cgroup.subtree_control", "+"+c)
		}
		if err != nil {
			log.Warn("cgroup controller is not usable", "controller", c, "error", err)
		}
	}
	var usable []string
	for _, c := range readFields(filepath.Join(dir, "cgroup.subtree_control")) {
		if slices.Contains(wantedControllers, c) {
			usable = append(usable, c)
		}
	}
	slices.Sort(usable)
	return usable
}

// moveSelf moves the agent from dir into the leaf "agent", if it is in dir
// and alone there.
func moveSelf(dir string) bool {
	self := strconv.Itoa(os.Getpid())
	if procs := readFields(filepath.Join(dir, "cgroup.procs")); len(procs) != 1 || procs[0] != self {
		return false
	}
	leaf := filepath.Join(dir, "agent")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	return writeControl(leaf, "cgroup.procs", self) == nil
}

// openAbove opens the OOM counters of every cgroup whose limit could hit a
// process, from the table's own upwards.
func (h *hierarchy) openAbove() {
	if !slices.Contains(h.controllers, "memory") {
		return
	}
	for dir := h.dir; ; dir = filepath.Dir(dir) {
		f, err := os.Open(filepath.Join(dir, "memory.events.local"))
		if err != nil {
			return // the root has none, and above it is no cgroup
		}
		h.above = append(h.above, f)
	}
}

// oomAbove sums how often a limit above the processes was hit so hard that
// the OOM killer came.
func (h *hierarchy) oomAbove() uint64 {
	var sum uint64
	var buf [512]byte
	for _, f := range h.above {
		n, _ := f.ReadAt(buf[:], 0)
		sum += flatKey(string(buf[:n]), "oom")
	}
	return sum
}

// close removes the table's directory; its processes have ended.
func (h *hierarchy) close() error {
	for _, f := range h.above {
		_ = f.Close()
	}
	c := cgroup{dir: h.dir, hasKill: h.hasKill}
	err := c.removeSoon()
	_ = h.lock.Close()
	return err
}

// create makes the cgroup of a process and sets its limits.
func (h *hierarchy) create(id string, l Limits) (*cgroup, error) {
	// No interface file of the kernel begins so.
	c := &cgroup{dir: filepath.Join(h.dir, "p-"+id), hasKill: h.hasKill, tree: h}
	err := os.Mkdir(c.dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		// The last process of this name left an empty cgroup behind.
		if err = os.Remove(c.dir); err == nil {
			err = os.Mkdir(c.dir, 0o755)
		}
	}
	if err != nil {
		return nil, &StartError{StageCgroup, c.dir, errnoOf(err)}
	}
	if err := h.limit(c, l); err != nil {
		_ = c.remove()
		return nil, err
	}
	c.oomBefore = h.oomAbove()
	return c, nil
}

// limit writes the limits, or says which controller is missing.
func (h *hierarchy) limit(c *cgroup, l Limits) error {
	for _, s := range l.settings() {
		if !slices.Contains(h.controllers, s.controller) {
			return unsupportedLimit(s.controller)
		}
		if err := writeControl(c.dir, s.file, s.value); err != nil {
			return &StartError{StageCgroup, s.file, errnoOf(err)}
		}
	}
	return nil
}

func unsupportedLimit(controller string) error {
	return &StartError{StageCgroup, controller,
		fmt.Errorf("no such controller: %w", errors.ErrUnsupported)}
}

// A setting is one line in one control file.
type setting struct{ controller, file, value string }

// cpuPeriod is the kernel's default period of cpu.max, in microseconds.
const cpuPeriod = 100_000

func (l Limits) settings() []setting {
	var s []setting
	add := func(set bool, controller, file, value string) {
		if set {
			s = append(s, setting{controller, file, value})
		}
	}
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	add(l.MemoryMax > 0, "memory", "memory.max", num(l.MemoryMax))
	add(l.MemoryHigh > 0, "memory", "memory.high", num(l.MemoryHigh))
	if l.SwapMax != nil {
		add(true, "memory", "memory.swap.max", num(*l.SwapMax))
	}
	add(l.PidsMax > 0, "pids", "pids.max", num(l.PidsMax))
	// The kernel takes no quota below 1 ms.
	add(l.CPUMillis > 0, "cpu", "cpu.max", num(max(1000, l.CPUMillis*cpuPeriod/1000))+" "+num(cpuPeriod))
	add(l.CPUWeight > 0, "cpu", "cpu.weight", num(l.CPUWeight))
	return s
}

// writeControl writes a control file, which must exist, in one write.
func writeControl(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// readFields returns a file's words; none where it cannot be read.
func readFields(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b))
}

// flatKey finds the value of key in a flat-keyed control file.
func flatKey(content, key string) uint64 {
	for line := range strings.Lines(content) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseUint(v, 10, 64)
			return n
		}
	}
	return 0
}
