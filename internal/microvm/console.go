//go:build linux

package microvm

import (
	"bytes"
	"os"
	"strings"
	"sync"
)

// consoleLimit is how much of the newest output is kept in memory; the file
// holds all of it.
const consoleLimit = 1 << 20

// agentStarted is what PID 1 (package boot) logs each time it has started the
// agent. From then on the vsock driver is up.
const agentStarted = `guestd: msg="agent started"`

// noTimer is what the kernel says when emulation was so slow (a host with many
// times more to do than processors) that it could not measure its timer. A
// microvm has no other one: the guest hangs from here on.
const noTimer = "disabling apic timer"

// console collects what a guest writes to its serial line.
type console struct {
	started chan struct{} // closed when agentStarted has been seen
	stuck   chan struct{} // closed when noTimer has been seen

	mu   sync.Mutex
	text []byte
	seen map[string]bool
	file *os.File // nil keeps the output in memory only
}

func newConsole() *console {
	return &console{
		started: make(chan struct{}),
		stuck:   make(chan struct{}),
		seen:    make(map[string]bool),
	}
}

// Write never fails: a full disk here is no fault of the guest.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	c.look(agentStarted, len(p), c.started)
	c.look(noTimer, len(p), c.stuck)
	if len(c.text) > 2*consoleLimit {
		c.text = append([]byte(nil), c.text[len(c.text)-consoleLimit:]...)
	}
	if c.file != nil {
		_, _ = c.file.Write(p)
	}
	return len(p), nil
}

// look closes the channel when the marker appears in the last n bytes, or began
// before them.
func (c *console) look(marker string, n int, found chan struct{}) {
	from := max(0, len(c.text)-n-len(marker))
	if !c.seen[marker] && bytes.Contains(c.text[from:], []byte(marker)) {
		c.seen[marker] = true
		close(found)
	}
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(string(c.text), "\r\n", "\n")
}

// tail returns the last n lines, for error messages.
func (c *console) tail(n int) string {
	lines := strings.Split(strings.TrimRight(c.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
