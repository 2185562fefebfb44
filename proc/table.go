//go:build linux

package proc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/guestd/guestd/internal/passwd"
	"golang.org/x/sys/unix"
)

// A Table holds the processes of one agent. Its methods may be called by many
// goroutines. Make one with [NewTable] and end it with [Table.Shutdown] or
// [Table.Close].
type Table struct {
	cfg     Config
	log     *slog.Logger
	boot    string
	budget  *budget
	env     *environ
	inherit inheritance

	// forks bounds the threads that are between fork and exec: each blocks
	// until its child has executed.
	forks chan struct{}

	crowd      int     // living processes beyond which the forker forks
	forker     *forker // nil without a crowd; set in forkerOnce
	forkerOnce sync.Once

	wg sync.WaitGroup // the supervisors

	mu      sync.Mutex
	tree    *hierarchy // nil without cgroup2
	slots   map[string]*slot
	retired []*Process // ended, the oldest first
	expiry  *time.Timer
	alive   int // processes that are starting or have not finished
	running int // of those, the ones whose exit has not been reported
	started uint64
	closed  bool
}

// A slot is a place in the table; p is set, and then ready closed, when the
// process has started. A slot whose start failed is no longer in the table.
type slot struct {
	spec  Spec
	ready chan struct{}
	p     *Process
	err   error
}

// NewTable makes a table. It starts no process and no goroutine, but it makes
// the table's cgroup, raises RLIMIT_NOFILE of the agent (not of what it starts)
// to what MaxProcesses may need, and marks every descriptor above 2
// close-on-exec, so that what the agent itself inherited is not passed on. The
// kernel must have pidfds (Linux 5.4).
func NewTable(cfg Config) (*Table, error) {
	cfg.setDefaults()
	if cfg.BootID == "" {
		cfg.BootID = newID()
	}
	if err := validID("boot id", cfg.BootID); err != nil {
		return nil, err
	}
	env, err := newEnviron(cfg.Env)
	if err != nil {
		return nil, err
	}
	if err := checkPidfd(); err != nil {
		return nil, err
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("close descriptors on exec: %w", err)
	}
	t := &Table{
		cfg: cfg, log: cfg.Logger, boot: cfg.BootID, env: env,
		budget: newBudget(cfg.RingTotal),
		forks:  make(chan struct{}, max(4, runtime.NumCPU())),
		crowd:  crowd,
		slots:  map[string]*slot{},
	}
	t.inherit = readInheritance(t.log, len(cfg.Shim) > 0)
	t.inherit.files = raiseFileLimit(cfg.MaxProcesses)
	t.tree = t.openHierarchy()
	return t, nil
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Passwd == nil {
		c.Passwd = new(passwd.Cache).Lookup
	}
	c.RingSize = max(minRing, cmp.Or(c.RingSize, DefaultRingSize))
	c.RingTotal = cmp.Or(c.RingTotal, DefaultRingTotal)
	c.Retention = cmp.Or(c.Retention, DefaultRetention)
	c.Drain = cmp.Or(c.Drain, DefaultDrain)
	c.KillGrace = cmp.Or(c.KillGrace, DefaultKillGrace)
	c.MaxProcesses = cmp.Or(c.MaxProcesses, DefaultMaxProcesses)
	c.MaxRetained = cmp.Or(c.MaxRetained, DefaultMaxRetained)
}

func checkPidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	return unix.Close(fd)
}

// openHierarchy returns nil where there is no cgroup2 to be written to.
func (t *Table) openHierarchy() *hierarchy {
	if t.cfg.Cgroup == "none" {
		return nil
	}
	parent, err := t.cfg.Cgroup, error(nil)
	if parent == "" {
		parent, err = findCgroup2()
	}
	var h *hierarchy
	if err == nil {
		// Not for the boot alone: several agents may share the machine's.
		h, err = newHierarchy(parent, t.boot+"-"+rand.Text()[:8], t.log)
	}
	if err != nil {
		t.log.Warn("no cgroup for processes; their trees are their sessions", "error", err)
		return nil
	}
	return h
}

// Start starts a process. With Spec.ID it is idempotent: where the id is in
// use with a deeply equal spec, started is false and p is the process that is
// there, ended or not; with another spec the error is ErrExists. ctx bounds
// only the starting. The other errors are *SpecError, *StartError, ErrTooMany
// and ErrClosed.
func (t *Table) Start(ctx context.Context, spec Spec) (p *Process, started bool, err error) {
	return t.start(ctx, spec, nil)
}

// StartAttached is Start with a subscription that exists before the first
// byte of output does. It belongs to the caller, who closes it. To a process
// that was there already it is an ordinary subscription.
func (t *Table) StartAttached(ctx context.Context, spec Spec, opts SubscribeOptions) (p *Process, sub *Subscription, started bool, err error) {
	attach := func(o *output) error {
		sub, err = o.subscribe(opts)
		return err
	}
	p, started, err = t.start(ctx, spec, attach)
	if err != nil {
		return nil, nil, false, err
	}
	if !started {
		sub, err = p.Subscribe(opts)
	}
	return p, sub, started, err
}

func (t *Table) start(ctx context.Context, spec Spec, attach func(*output) error) (*Process, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	spec = spec.normalized()
	if err := spec.validate(); err != nil {
		return nil, false, err
	}
	s, mine, err := t.reserve(spec)
	for err == nil && !mine {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if !errors.Is(s.err, context.Canceled) && !errors.Is(s.err, context.DeadlineExceeded) {
			return s.p, false, s.err
		}
		// Who began to start it has given up; this caller has not.
		s, mine, err = t.reserve(spec)
	}
	if err != nil {
		return nil, false, err
	}
	p, err := t.launch(ctx, &s.spec, attach)
	if errors.Is(err, syscall.ENOSYS) && t.dropHierarchy() {
		p, err = t.launch(ctx, &s.spec, attach)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(s.ready)
	s.p, s.err = p, err
	if err != nil {
		delete(t.slots, s.spec.ID)
		t.alive--
		t.running--
		t.wg.Done()
		return nil, false, err
	}
	t.started++
	go p.supervise()
	return p, true, nil
}

// reserve finds the slot of spec's id or makes one; mine says which. Whoever
// makes one has also entered t.wg.
func (t *Table) reserve(spec Spec) (s *slot, mine bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false, fmt.Errorf("process table: %w", ErrClosed)
	}
	if spec.ID != "" {
		if s := t.slots[spec.ID]; s != nil {
			if !reflect.DeepEqual(s.spec, spec) {
				return nil, false, fmt.Errorf("process %q: %w", spec.ID, ErrExists)
			}
			return s, false, nil
		}
	}
	if t.alive >= t.cfg.MaxProcesses {
		return nil, false, fmt.Errorf("%d processes: %w", t.alive, ErrTooMany)
	}
	for spec.ID == "" || t.slots[spec.ID] != nil {
		spec.ID = newID()
	}
	s = &slot{spec: spec, ready: make(chan struct{})}
	t.slots[spec.ID] = s
	t.alive++
	t.running++
	t.wg.Add(1)
	return s, true, nil
}

// Get finds a process by its id, or by its handle: ErrNotFound, and ErrStale
// for a handle of another boot.
func (t *Table) Get(id string) (*Process, error) {
	id, err := t.resolveID(id)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.slots[id]; s != nil && s.p != nil {
		return s.p, nil
	}
	return nil, fmt.Errorf("process %q: %w", id, ErrNotFound)
}

// List returns all processes, the oldest first.
func (t *Table) List() []*Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*Process, 0, len(t.slots))
	for _, s := range t.slots {
		if s.p != nil {
			list = append(list, s.p)
		}
	}
	slices.SortFunc(list, func(a, b *Process) int {
		return cmp.Or(a.started.Compare(b.started), strings.Compare(a.id, b.id))
	})
	return list
}

// BootID is the first part of the handles of this table.
func (t *Table) BootID() string { return t.boot }

// Capabilities says what this table can do on this system.
func (t *Table) Capabilities() Capabilities {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := Capabilities{
		TreeSignals:  "session",
		GroupByPidfd: groupByPidfd(),
		Shim:         len(t.cfg.Shim) > 0,
	}
	if t.tree != nil {
		c.Cgroup = t.tree.dir
		c.Controllers = slices.Clone(t.tree.controllers)
		c.CgroupKill = t.tree.hasKill
		c.CloneIntoCgroup = true
		c.TreeSignals = "cgroup"
	}
	return c
}

// Stats counts what the table holds.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Running:   t.running,
		Lingering: t.alive - t.running,
		Retained:  len(t.retired),
		Started:   t.started,
		RingBytes: t.budget.total(),
		RingLimit: t.cfg.RingTotal,
	}
}

// dropHierarchy does without cgroups from now on, where the kernel or a
// seccomp filter has no clone3 to clone into one. It reports whether that
// changes anything.
func (t *Table) dropHierarchy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tree == nil || t.started > 0 {
		return false
	}
	t.log.Warn("no clone3: the trees of processes are their sessions")
	_ = t.tree.close()
	t.tree = nil
	return true
}

func (t *Table) hierarchy() *hierarchy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tree
}
