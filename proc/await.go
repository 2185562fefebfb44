//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A Condition is something that a caller of [Table.WaitFor] waits for:
// [ExitCondition], [PortCondition], [OutputCondition], [FileCondition] or
// [HTTPCondition].
type Condition interface {
	// check returns a *SpecError for a condition that makes no sense.
	check() error
	// await returns when the condition is true: ErrNever when it cannot
	// become true any more, or ctx's error. It calls exited, any number of
	// times, when it was not true before its process's exit.
	await(ctx context.Context, exited func()) (Match, error)
}

// A looker is a condition that is polled.
type looker interface{ look() bool }

// ExitCondition comes true when the process's exit is reported.
type ExitCondition struct{ Process *Process }

// PortCondition comes true when something listens on the port, on any address
// of the agent's network namespace.
type PortCondition struct {
	Network string   // "tcp" or "udp", both with IPv6; empty is "tcp"
	Port    uint16   // not 0
	Process *Process // only its tree counts; nil is whoever it is
}

// OutputCondition comes true when Pattern matches in the stream's bytes from
// offset From on (or FromStart, FromNow), across the borders of chunks and
// lines. It comes true with the first byte that completes a match; $ and \z
// match at the end of what has been printed so far, so that a prompt can be
// waited for. The process waits for the search as for a lossless subscriber.
// It can never come true when the output has ended.
type OutputCondition struct {
	Process *Process
	Stream  Stream
	From    int64
	Pattern *regexp.Regexp // bytes that are not UTF-8 match as U+FFFD
}

// FileCondition comes true when the path exists; symbolic links are followed.
// It must be absolute. The agent looks with its own rights.
type FileCondition struct{ Path string }

// HTTPCondition comes true when a GET of URL gives a status of MinStatus to
// MaxStatus; with both 0, of 200 to 399. Redirects are not followed and no
// proxy is used. Each try takes at most 5 seconds.
type HTTPCondition struct {
	URL       string // http://…, within the sandbox
	MinStatus int
	MaxStatus int
}

// Match says which condition came true, and how.
type Match struct {
	Index  int    // in the conditions given to WaitFor
	Exit   *Exit  // of an ExitCondition
	Offset uint64 // of an OutputCondition: after the byte that completed it
	Status int    // of an HTTPCondition
}

// WaitFor waits until the first of the conditions is true. An exit is later than
// what the process has printed or made before it. The error is ctx's
// if it ends first, ErrNever if none of them can come true any more, or a
// *SpecError for a condition that makes no sense.
func (t *Table) WaitFor(ctx context.Context, conds []Condition) (Match, error) {
	if len(conds) == 0 {
		return Match{}, &SpecError{"conditions", "are empty"}
	}
	for i, c := range conds {
		if err := c.check(); err != nil {
			return Match{}, fmt.Errorf("condition %d: %w", i, err)
		}
	}
	type result struct {
		m   Match
		err error
	}
	wctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	passed := make([]chan struct{}, len(conds)) // closed: not true before the exit, or its result is taken
	for i := range conds {
		passed[i] = make(chan struct{})
	}
	for i, c := range conds {
		go func() {
			exited := sync.OnceFunc(func() { close(passed[i]) })
			defer exited()
			m, err := c.await(wctx, exited)
			m.Index = i
			if exit, ok := c.(ExitCondition); ok && err == nil {
				m = exit.unlessBefore(wctx, m, conds, passed)
			}
			results <- result{m, err}
		}()
	}
	var won *Match
	never := ErrNever
	for range conds {
		r := <-results
		switch {
		case r.err == nil && won == nil:
			won = &r.m
			cancel()
		case r.err != nil && !errors.Is(r.err, ErrNever) && ctx.Err() == nil && won == nil:
			never = errors.Join(never, r.err)
		}
	}
	cancel()
	switch {
	case won != nil:
		return *won, nil
	case ctx.Err() != nil:
		return Match{}, ctx.Err()
	}
	return Match{}, never
}

func (c ExitCondition) check() error { return checkProcess(c.Process) }

func checkProcess(p *Process) error {
	if p == nil {
		return &SpecError{"process", "is missing"}
	}
	return nil
}

func (c ExitCondition) await(ctx context.Context, _ func()) (Match, error) {
	e, err := c.Process.Wait(ctx)
	return Match{Exit: &e}, err
}

// unlessBefore returns m, or the match of another condition that was true before
// the process's exit and has not told so yet.
func (c ExitCondition) unlessBefore(ctx context.Context, m Match, conds []Condition, passed []chan struct{}) Match {
	for i, other := range conds {
		switch other := other.(type) {
		case OutputCondition:
			if other.Process != c.Process {
				continue
			}
			select {
			case <-passed[i]:
			case <-ctx.Done():
			}
		case looker:
			if lookOnce(ctx, other) {
				return Match{Index: i}
			}
		}
	}
	return m
}

// lookBound is how long the last look may take: an exit is reported also where a
// file system does not answer.
const lookBound = time.Second

// lookOnce reports whether c is true, and false if that cannot be found out
// before ctx ends or the look has taken too long.
func lookOnce(ctx context.Context, c looker) bool {
	seen := make(chan bool, 1)
	go func() { seen <- c.look() }()
	timer := time.NewTimer(lookBound)
	defer timer.Stop()
	select {
	case is := <-seen:
		return is
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// The pace of looking for what the kernel has no event for. It costs nothing
// unless somebody waits.
const (
	pollFirst = 2 * time.Millisecond
	pollMost  = 100 * time.Millisecond
)

// poll calls look, ever more slowly, until it says true.
func poll(ctx context.Context, look func() bool) error {
	pause := pollFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if look() {
			return nil
		}
		timer.Reset(pause)
		pause = min(2*pause, pollMost)
	}
}

func (c FileCondition) check() error {
	if !strings.HasPrefix(c.Path, "/") || strings.IndexByte(c.Path, 0) >= 0 {
		return &SpecError{"path", "is not absolute, or has a NUL byte"}
	}
	return nil
}

func (c FileCondition) await(ctx context.Context, _ func()) (Match, error) {
	looked := make(chan error, 1)
	// On a file system that does not answer the look takes for ever, and nobody
	// can end it: what else is waited for must not depend on that.
	go func() { looked <- poll(ctx, c.look) }()
	select {
	case err := <-looked:
		return Match{}, err
	case <-ctx.Done():
		return Match{}, ctx.Err()
	}
}

func (c FileCondition) look() bool {
	_, err := os.Stat(c.Path)
	return err == nil
}

func (c HTTPCondition) check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return &SpecError{"url", "is not http://HOST…"}
	}
	if c.MinStatus > c.MaxStatus {
		return &SpecError{"status", "has a minimum above the maximum"}
	}
	return nil
}

func (c HTTPCondition) await(ctx context.Context, _ func()) (m Match, err error) {
	low, high := c.MinStatus, c.MaxStatus
	if low == 0 && high == 0 {
		low, high = 200, 399
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return m, err
	}
	err = poll(ctx, func() bool {
		status, err := httpStatus(ctx, u)
		if err != nil {
			return false
		}
		m.Status = status
		return low <= status && status <= high
	})
	return m, err
}
