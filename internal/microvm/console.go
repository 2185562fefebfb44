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

// console collects what a guest writes to its serial line. The zero value
// keeps it in memory only.
type console struct {
	mu   sync.Mutex
	text []byte
	file *os.File // may be nil
}

// Write never fails: a full disk here is no fault of the guest.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
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

func (c *console) contains(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.text, []byte(text))
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
