//go:build linux

package proc

import (
	"fmt"
	"slices"
	"time"
)

// maxCoalesce bounds by how much a record outlives its retention so that many
// records end with one wake-up.
const maxCoalesce = 30 * time.Second

// exited counts a process whose exit has been reported.
func (t *Table) exited() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
}

// retire takes over the record of a process of which nothing is alive.
func (t *Table) retire(p *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alive--
	p.expires = time.Now().Add(t.cfg.Retention)
	t.retired = append(t.retired, p)
	for len(t.retired) > t.cfg.MaxRetained || len(t.retired) > 0 && t.cfg.Retention < 0 {
		t.dropOldest()
	}
	t.schedule()
}

// schedule arms the one timer for the record that goes next. It never ticks
// for nothing, and with many records it fires rarely.
func (t *Table) schedule() {
	if t.expiry != nil || len(t.retired) == 0 || t.closed {
		return
	}
	wait := time.Until(t.retired[0].expires) + min(t.cfg.Retention/10, maxCoalesce)
	t.expiry = time.AfterFunc(wait, t.expire)
}

func (t *Table) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expiry = nil
	now := time.Now()
	for len(t.retired) > 0 && !t.retired[0].expires.After(now) {
		t.dropOldest()
	}
	t.schedule()
}

func (t *Table) dropOldest() {
	t.drop(t.retired[0])
	t.retired[0] = nil
	t.retired = t.retired[1:]
}

func (t *Table) drop(p *Process) {
	delete(t.slots, p.id)
	p.out.detach()
}

// Remove drops the record of a process of which nothing is alive any more:
// ErrNotFound, ErrStale, and ErrInvalid while it lives.
func (t *Table) Remove(id string) error {
	p, err := t.Get(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.retired, p)
	if i < 0 {
		return fmt.Errorf("remove process %q: %w", id, &SpecError{"id", "the process or something it started is alive"})
	}
	t.drop(p)
	t.retired = slices.Delete(t.retired, i, i+1)
	return nil
}
