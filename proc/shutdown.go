//go:build linux

package proc

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// closePatience is how long Close waits for killed processes to be gone. One
// in uninterruptible sleep may take longer; it is left to the kernel.
const closePatience = 5 * time.Second

// Shutdown ends everything: no process can be started any more, every tree
// gets TERM, and KILL when Config.KillGrace has passed or ctx has ended. It
// returns when every goroutine of the table has ended and its cgroup is
// removed; the error is ctx's if it ended first, or that of Close. Records and
// output stay readable.
func (t *Table) Shutdown(ctx context.Context) error {
	t.refuse()
	for _, p := range t.unfinished() {
		_ = p.Signal(syscall.SIGTERM, ScopeTree)
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		t.wg.Wait()
	}()
	grace := time.NewTimer(max(0, t.cfg.KillGrace))
	defer grace.Stop()
	var err error
	select {
	case <-all:
	case <-grace.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	err = errors.Join(err, t.Close())
	<-all
	return err
}

// Close is Shutdown without patience: it kills every tree at once. It may be
// called twice.
func (t *Table) Close() error {
	t.refuse()
	deadline := time.Now().Add(closePatience)
	var killers sync.WaitGroup
	for _, p := range t.unfinished() {
		killers.Go(func() { p.destroy(deadline) })
	}
	killers.Wait()
	t.wg.Wait()
	t.closeForker()
	t.mu.Lock()
	defer t.mu.Unlock()
	tree := t.tree
	t.tree = nil
	if tree == nil {
		return nil
	}
	return tree.close()
}

// refuse ends the starting of processes and the expiry of records.
func (t *Table) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.expiry != nil {
		t.expiry.Stop()
		t.expiry = nil
	}
}

// unfinished lists the processes of which something is alive, also those that
// are being started at this moment.
func (t *Table) unfinished() []*Process {
	t.mu.Lock()
	var starting []*slot
	for _, s := range t.slots {
		starting = append(starting, s)
	}
	t.mu.Unlock()
	var list []*Process
	for _, s := range starting {
		<-s.ready
		if s.p == nil {
			continue
		}
		select {
		case <-s.p.finished:
		default:
			list = append(list, s.p)
		}
	}
	return list
}
