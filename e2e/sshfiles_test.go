//go:build linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bigSize is the size of the one file that is moved for its size.
const bigSize = 64 << 20

// listTree prints modes, times, names and sums of what is below a directory, the
// same with the guest's busybox as here.
const listTree = ` && find . -exec stat -c '%a %Y %n' {} + && find . -type f -exec sha256sum {} +`

// testFiles moves a tree and a big file by every way that OpenSSH has. The guest
// has no program for any of them: they are guestd's own.
func (h *sshHost) testFiles(t *testing.T) {
	if got := sh(t, h.client, "for p in scp sftp-server; do command -v $p; done; true"); got != "" {
		t.Fatalf("this guest has %s", got)
	}
	config := h.config(t)
	if got := h.succeed(t, h.command("ssh", "-F", config, "vm", "command -v scp sftp-server")); got !=
		"/run/guestd/bin/scp\n/run/guestd/bin/sftp-server\n" {
		t.Errorf("a session finds %q", got)
	}
	tree := filepath.Join(h.dir, "tree")
	makeTree(t, tree)
	want := h.listing(t, tree)
	for name, copying := range h.ways(t, config) {
		t.Run(name, func(t *testing.T) {
			defer h.succeed(t, h.command("ssh", "-F", config, "vm", "rm -rf there"))
			h.succeed(t, copying(tree, "there", true))
			if got := sorted(h.succeed(t, h.command("ssh", "-F", config, "vm", "cd there"+listTree))); got != want {
				t.Errorf("in the guest is\n%s\nand was sent\n%s", got, want)
			}
			if got := sh(t, h.client, "find /home/ann/there ! -user ann -o ! -group ann"); got != "" {
				t.Errorf("not the user's: %s", got)
			}
			back := filepath.Join(h.dir, "back")
			defer os.RemoveAll(back)
			h.succeed(t, copying("there", back, false))
			if got := h.listing(t, back); got != want {
				t.Errorf("back came\n%s\nof\n%s", got, want)
			}
		})
	}
	t.Run("64 MiB", func(t *testing.T) { h.testBigFile(t, config) })
}

// A way is a command that copies a tree with its modes and times, up into the
// guest or down from it.
type way func(from, to string, up bool) *exec.Cmd

func (h *sshHost) ways(t *testing.T, config string) map[string]way {
	scp := func(flags string) way {
		return func(from, to string, up bool) *exec.Cmd {
			if up {
				to = "vm:" + to
			} else {
				from = "vm:" + from
			}
			return h.command("scp", "-F", config, flags, from, to)
		}
	}
	return map[string]way{
		"scp":    scp("-pqr"),
		"scp -O": scp("-Opqr"),
		"sftp": func(from, to string, up bool) *exec.Cmd {
			verb := "get"
			if up {
				verb = "put"
			}
			batch := filepath.Join(h.dir, "batch")
			if err := os.WriteFile(batch, []byte(verb+" -pR "+from+" "+to+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return h.command("sftp", "-F", config, "-q", "-b", batch, "vm")
		},
	}
}

// testBigFile moves one file each way, and logs how fast.
func (h *sshHost) testBigFile(t *testing.T, config string) {
	data := random(bigSize)
	file := filepath.Join(h.dir, "big")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	defer h.succeed(t, h.command("ssh", "-F", config, "vm", "rm big"))
	start := time.Now()
	h.succeed(t, h.command("scp", "-F", config, "-q", file, "vm:big"))
	up := time.Since(start)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	h.succeed(t, h.command("scp", "-F", config, "-q", "vm:big", file))
	down := time.Since(start)
	defer os.Remove(file)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, or others: %v", len(got), err)
	}
	t.Logf("%d MiB: up in %v, down in %v", bigSize>>20, up.Round(time.Millisecond), down.Round(time.Millisecond))
}

// listing is what listTree prints here, sorted.
func (h *sshHost) listing(t *testing.T, dir string) string {
	t.Helper()
	return sorted(h.succeed(t, h.command("/bin/sh", "-c", "cd '"+dir+"'"+listTree)))
}

// sorted sorts lines: directories have an order of their own in every file
// system.
func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// makeTree makes a tree of all that copies are apt to lose.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"", "sub", "sub/empty", "private"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []struct {
		name string
		mode os.FileMode
		size int
	}{
		{"empty", 0o644, 0},
		{"program", 0o755, 3<<20 + 1},
		{"read only", 0o444, 1},
		{"sub/größe", 0o640, 32 << 10},
		{"private/key", 0o600, 400},
	} {
		path := filepath.Join(dir, file.name)
		if err := os.WriteFile(path, random(file.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, file.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	// In the past, each another time, and from the bottom up.
	at := time.Date(2001, time.February, 3, 4, 5, 6, 0, time.UTC)
	for _, name := range []string{
		"sub/größe", "sub/empty", "sub", "private/key", "private", "empty", "program", "read only", "",
	} {
		at = at.Add(25 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data) // it never fails
	return data
}
