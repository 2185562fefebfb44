package client

import (
	"sync"
	"time"
)

// progressInterval is the time between two calls of a progress function.
const progressInterval = 100 * time.Millisecond

// Progress is how far an Upload or a Download has come.
type Progress struct {
	Path  string // what is being moved, relative to what was asked for
	Files int64  // files and directories begun
	Bytes int64  // of content so far
	Total int64  // of content in the end, as seen at the start; -1: not known
}

// meter collects progress and reports it at a bounded rate from a goroutine of
// its own, so that a slow report does not hold up the transfer.
type meter struct {
	report func(Progress)
	stop   chan struct{}
	done   chan struct{}

	mu   sync.Mutex
	last Progress
}

// newMeter returns nil for a nil report; a nil meter does nothing.
func newMeter(report func(Progress)) *meter {
	if report == nil {
		return nil
	}
	m := &meter{
		report: report,
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		last:   Progress{Total: -1},
	}
	go m.run()
	return m
}

func (m *meter) run() {
	defer close(m.done)
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.report(m.current())
		case <-m.stop:
			m.report(m.current())
			return
		}
	}
}

func (m *meter) current() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

func (m *meter) update(change func(p *Progress)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.last)
}

// close reports once more, so that the last report is the final state, and
// returns when no more will come.
func (m *meter) close() {
	if m == nil {
		return
	}
	close(m.stop)
	<-m.done
}
