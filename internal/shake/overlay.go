package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed hesitate.go.txt
var hesitate string

// A patch changes one place of the standard library.
type patch struct {
	file     string // below GOROOT/src
	old, new string // old is there once
}

// patches are where goroutines hesitate. Each file that is not the runtime's
// declares the function, which the runtime has.
var patches = []patch{
	{"sync/mutex.go", "\tm.mu.Lock()\n}", "\thesitate()\n\tm.mu.Lock()\n}"},
	{"sync/mutex.go", "\tm.mu.Unlock()\n}", "\tm.mu.Unlock()\n\thesitate()\n}\n\nfunc hesitate()"},
	{"sync/cond.go", "\truntime_notifyListNotifyAll(&c.notify)\n", "\truntime_notifyListNotifyAll(&c.notify)\n\thesitate()\n"},
	{
		"runtime/chan.go",
		"func chansend1(c *hchan, elem unsafe.Pointer) {\n",
		"func chansend1(c *hchan, elem unsafe.Pointer) {\n\thesitate()\n",
	},
	{"runtime/chan.go", "\tchanrecv(c, elem, true)\n}", "\tchanrecv(c, elem, true)\n\thesitate()\n}"},
	{
		"runtime/chan.go",
		"func closechan(c *hchan) {\n",
		"func closechan(c *hchan) {\n\tcloseUnshaken(c)\n\thesitate()\n}\n\nfunc closeUnshaken(c *hchan) {\n",
	},
	{
		"internal/poll/fd_unix.go",
		"func (fd *FD) Read(p []byte) (int, error) {\n",
		"func hesitate()\n\nfunc (fd *FD) Read(p []byte) (int, error) {\n\tdefer hesitate()\n",
	},
	{
		"internal/poll/fd_unix.go",
		"func (fd *FD) Write(p []byte) (int, error) {\n",
		"func (fd *FD) Write(p []byte) (int, error) {\n\tdefer hesitate()\n",
	},
}

// writeOverlay writes the changed files into dir, and what go's option -overlay
// wants to know of them, whose path it returns.
func writeOverlay(goroot, dir string) (string, error) {
	texts := map[string]string{"runtime/hesitate.go": hesitate}
	for _, p := range patches {
		text, seen := texts[p.file]
		if !seen {
			b, err := os.ReadFile(filepath.Join(goroot, "src", p.file))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, p.old); n != 1 {
			return "", fmt.Errorf("this Go's %s has %q %d times instead of once: the patch must be adapted", p.file, p.old, n)
		}
		texts[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	replace := make(map[string]string)
	for file, text := range texts {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(goroot, "src", file)] = path
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o644)
}
