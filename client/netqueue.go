package client

import (
	"os"
	"sync"
	"time"
)

// netQueue is what both directions of a netConn have in common: a lock, a way
// to wait for a change, and a deadline. Its fields are guarded by mu.
type netQueue struct {
	mu      sync.Mutex
	changed sync.Cond

	size    int  // bytes that are queued
	local   bool // closed by this side
	expired bool // the deadline has passed
	ended   bool // nothing more goes through; err is why
	err     error

	timer *time.Timer
}

func (q *netQueue) init() { q.changed.L = &q.mu }

// setDeadline makes those who wait fail from t on; zero is never.
func (q *netQueue) setDeadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	q.expired = false
	if t.IsZero() {
		return
	}
	rest := time.Until(t)
	if rest <= 0 {
		q.expired = true
		q.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(rest, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		// A timer that was replaced while it fired does not count.
		if q.timer == timer {
			q.expired = true
			q.changed.Broadcast()
		}
	})
	q.timer = timer
}

// end says that nothing more goes through. The first reason given stays; nil is
// an orderly end.
func (q *netQueue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.ended, q.err = true, err
		q.changed.Broadcast()
	}
}

// closeLocal says that this side has closed.
func (q *netQueue) closeLocal() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.local = true
	if q.timer != nil {
		q.timer.Stop()
	}
	q.changed.Broadcast()
}

// errTimeout is the error after a deadline; it is a timeout to package net.
var errTimeout error = os.ErrDeadlineExceeded
