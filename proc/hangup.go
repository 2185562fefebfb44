//go:build linux

package proc

import "os"

// Hangup closes the agent's ends of the process's terminal or pipes, as when a
// line breaks. The kernel sends SIGHUP to a terminal's session; who reads from a
// pipe sees the end of the input, who writes to one gets SIGPIPE or EPIPE.
// Nothing is killed: a process that has left the terminal's session and writes
// elsewhere goes on. Output that was not read yet is kept, what comes later is
// not, and the exit is reported as usual. Hanging up twice, or a process that
// has ended, does nothing.
func (p *Process) Hangup() {
	p.inMu.Lock()
	p.inClosed = true
	p.inMu.Unlock()
	// The pumps and a blocked Write end with an error and let go.
	for _, f := range []*os.File{p.io.stdin, p.io.stdout, p.io.stderr, p.io.tty} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// CloseOutput closes the agent's end of an output pipe, as a reader that goes
// away: whoever writes to it from now on gets SIGPIPE. On a terminal, which has no
// directions, and for a stream that is not a pipe it does nothing.
func (p *Process) CloseOutput(s Stream) {
	f := p.io.stdout
	if s == Stderr {
		f = p.io.stderr
	}
	if f != nil {
		_ = f.Close()
	}
}
