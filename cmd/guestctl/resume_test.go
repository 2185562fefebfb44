//go:build linux

package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestResume ends a copy in its middle, with guestctl, and makes it again: what
// is there by then is not moved a second time.
func TestResume(t *testing.T) {
	const size, first = 40_000_000, 30_000_000
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data) // never fails
	for name, up := range map[string]bool{"upload": true, "download": false} {
		t.Run(name, func(t *testing.T) {
			socket := newAgent(t)
			dir := t.TempDir()
			if err := os.WriteFile(dir+"/source", data, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"cp", ":" + dir + "/source", dir + "/copy"}
			if up {
				args = []string{"cp", dir + "/source", ":" + dir + "/copy"}
			}
			breakOff(t, socket, up, first, args)
			if _, err := os.Stat(dir + "/copy"); err == nil {
				t.Error("there is a copy already")
			}
			counter, err := newCutter(socket, false, false)
			if err != nil {
				t.Fatal(err)
			}
			cmd := guestctl(t, counter.socket(), args...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			counter.close()
			if passed := counter.passed.Load(); passed > size/2 {
				t.Errorf("%d bytes were moved, of %d that were missing", passed, size-first)
			}
			if copied, err := os.ReadFile(dir + "/copy"); err != nil || !bytes.Equal(copied, data) {
				t.Errorf("%d bytes, %v", len(copied), err)
			}
			names, err := filepath.Glob(dir + "/.*")
			if err != nil || len(names) > 0 {
				t.Errorf("left: %q, %v", names, err)
			}
		})
	}
}

// breakOff runs a copy whose connection breaks after so many bytes, for good,
// and ends it.
func breakOff(t *testing.T, socket string, up bool, after int64, args []string) {
	t.Helper()
	proxy, err := newCutter(socket, up, true, after)
	if err != nil {
		t.Fatal(err)
	}
	cmd := guestctl(t, proxy.socket(), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "cut", func() bool { return proxy.passed.Load() >= after })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(t, cmd.Wait()); code != 130 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	proxy.close()
}

// TestNoResume leaves nothing behind.
func TestNoResume(t *testing.T) {
	socket := newAgent(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/source", make([]byte, 20_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"cp", "--no-resume", ":" + dir + "/source", dir + "/copy"},
		{"cp", "--no-resume", dir + "/source", ":" + dir + "/copy"},
	} {
		breakOff(t, socket, !strings.HasPrefix(args[2], ":"), 5_000_000, args)
		eventually(t, "nothing left", func() bool {
			entries, err := os.ReadDir(dir)
			return err == nil && len(entries) == 1
		})
	}
}
