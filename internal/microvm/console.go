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

// console collects what a guest writes to its serial line.
type console struct {
	started chan struct{} // closed when agentStarted has been seen

	mu   sync.Mutex
	text []byte
	seen bool     // started is closed
	file *os.File // nil keeps the output in memory only
}

func newConsole() *console {
	return &console{started: make(chan struct{})}
}

// Write never fails: a full disk here is no fault of the guest.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The marker may be split between two writes.
	unseen := max(0, len(c.text)-len(agentStarted))
	c.text = append(c.text, p...)
	if !c.seen && bytes.Contains(c.text[unseen:], []byte(agentStarted)) {
		c.seen = true
		close(c.started)
	}
	if len(c.text) > 2*consoleLimit {
		c.text = append([]byte(nil), c.text[len(c.text)-consoleLimit:]...)
	}
	if c.file != nil {
		_, _ = c.file.Write(p)
	}
	return len(p), nil
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
