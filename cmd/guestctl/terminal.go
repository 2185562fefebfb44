package main

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/guestd/guestd/client"
)

// terminal is the terminal that guestctl is used from.
type terminal struct {
	file *os.File

	mu    sync.Mutex
	state *term.State // as it was before raw; nil: not raw
}

// openTerminal is the terminal behind stdin.
func openTerminal(stdin io.Reader) (*terminal, error) {
	if !isTerminal(stdin) {
		return nil, usagef("-t wants a terminal, but stdin is none; leave -t out to run without one")
	}
	file, _ := stdin.(*os.File)
	return &terminal{file: file}, nil
}

// size is the terminal's size; zero, for which the guest has a default, if it
// is not known.
func (t *terminal) size() client.TerminalSize {
	columns, rows, err := term.GetSize(int(t.file.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return client.TerminalSize{}
	}
	return client.TerminalSize{Rows: uint16(min(rows, 0xffff)), Columns: uint16(min(columns, 0xffff))}
}

// raw has the terminal hand every key on as it is, to the terminal in the
// guest. Restore must be called, also when panicking.
func (t *terminal) raw() (restore func(), err error) {
	state, err := term.MakeRaw(int(t.file.Fd()))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.state = state
	t.mu.Unlock()
	return t.restore, nil
}

// restore undoes raw. It may be called again.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		_ = term.Restore(int(t.file.Fd()), t.state) // a terminal that is gone needs none
		t.state = nil
	}
}
