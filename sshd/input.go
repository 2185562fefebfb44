//go:build linux

package sshd

import (
	"io"
	"sync"
)

// An input is what comes in on a channel. It is an io.Reader for one goroutine
// at a time, and known to the connection's backlog from the channel's first
// moment until its end.
type input struct {
	src     io.Reader // the channel
	backlog *backlog

	mu      sync.Mutex
	changed *sync.Cond
	reading bool   // somebody reads src: the reader, or the compactor
	wanted  bool   // the reader is there, reading or waiting for the compactor
	spill   []byte // compacted, to be read before anything else
	err     error  // of src, to be told after spill
	ended   bool   // the backlog has forgotten it
}

func newInput(src io.Reader, b *backlog) *input {
	in := &input{src: src, backlog: b}
	in.changed = sync.NewCond(&in.mu)
	b.add(in)
	return in
}

// Read reads from the channel.
func (in *input) Read(b []byte) (int, error) {
	for {
		if n, err, ok := in.take(b); ok {
			return n, err
		}
		if in.claim(true) {
			break
		}
	}
	n, err := in.src.Read(b)
	in.backlog.read(n)
	in.yield(true, err)
	return n, err
}

// take reads what was compacted, if anything was.
func (in *input) take(b []byte) (n int, err error, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case len(in.spill) > 0:
		n = copy(b, in.spill)
		in.spill = in.spill[n:]
		in.backlog.spilled.Add(int64(-n))
		if len(in.spill) == 0 {
			in.spill = nil
		}
		return n, nil, true
	case in.err != nil:
		return 0, in.err, true
	}
	return 0, nil, false
}

// claim makes the caller the one that reads src. It is refused if somebody is;
// with wait, only after that one has found something.
func (in *input) claim(wait bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.reading || in.err != nil {
		for wait && in.reading && len(in.spill) == 0 {
			in.want(true)
			in.changed.Wait()
		}
		if wait {
			in.want(false)
		}
		return false
	}
	if !wait && in.backlog.spillFull(len(in.spill)) {
		return false
	}
	in.reading = true
	if wait {
		in.want(true)
	}
	return true
}

// want says whether the reader is there: the channel is not stalled then. What
// the compactor does is no sign of that. in.mu is held.
func (in *input) want(wanted bool) {
	if wanted == in.wanted {
		return
	}
	in.wanted = wanted
	if wanted {
		in.backlog.stalled.Add(-1)
	} else {
		in.backlog.stalled.Add(1)
	}
}

// yield is the end of what claim began, by the reader or the compactor.
func (in *input) yield(reader bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.reading = false
	if reader {
		in.want(false)
	}
	if err != nil {
		in.err = err
		in.end()
	}
	in.changed.Broadcast()
}

// end makes the backlog forget the channel. in.mu is held.
func (in *input) end() {
	if !in.ended {
		in.ended = true
		in.backlog.remove(in)
	}
}

// close ends the account of a channel that is not read any more because it is
// closed.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.backlog.spilled.Add(int64(-len(in.spill)))
	in.spill = nil
	if in.err == nil {
		in.err = io.EOF
	}
	in.end()
}

// compact reads src into spill, after claim, until the reader is back or there
// is too much.
func (in *input) compact() {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.src.Read(buf)
		in.backlog.read(n)
		if in.keep(buf[:n]) || err != nil {
			in.yield(false, err)
			return
		}
	}
}

// keep appends to spill and reports whether that was enough.
func (in *input) keep(b []byte) (enough bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.spill = append(in.spill, b...)
	in.backlog.spilled.Add(int64(len(b)))
	in.changed.Broadcast()
	return in.wanted || in.backlog.spillFull(len(in.spill))
}
