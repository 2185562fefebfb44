//go:build linux

package sshd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guestd/guestd/internal/access"
)

// copier is a stock sftp or scp with a new key, which is granted as g says.
func (l *lab) copier(g access.Grant, program string, args ...string) *exec.Cmd {
	l.t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		l.t.Skip("no " + program + ": apt-get install openssh-client")
	}
	cmd := l.ssh(g) // grants, and has the options
	options := cmd.Args[1 : len(cmd.Args)-1]
	return exec.CommandContext(l.t.Context(), program, append(append([]string{"-q"}, options...), args...)...)
}

func TestSFTP(t *testing.T) {
	l := newLab(t)
	watcher, err := l.store.Watch(access.WatchOptions{Files: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close() }()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	from, to := filepath.Join(l.dir, "from"), filepath.Join(l.dir, "to")
	if err := os.WriteFile(from, data, 0o640); err != nil {
		t.Fatal(err)
	}
	host := me(t).Username + "@guest:"
	if got := run(t, l.copier(access.Grant{}, "scp", "-p", from, host+to)); got != (outcome{}) {
		t.Errorf("scp to the guest: %+v", got)
	}
	back := filepath.Join(l.dir, "back")
	if got := run(t, l.copier(access.Grant{}, "scp", "-p", host+to, back)); got != (outcome{}) {
		t.Errorf("scp from the guest: %+v", got)
	}
	for _, file := range []string{to, back} {
		got, err := os.ReadFile(file)
		info, _ := os.Stat(file)
		if err != nil || !bytes.Equal(got, data) || info.Mode() != 0o640 {
			t.Errorf("%s: %d bytes, %v, %v", file, len(got), info, err)
		}
	}
	got := run(t, l.copier(access.Grant{}, "scp", host+filepath.Join(l.dir, "none"), back))
	if got.code != 1 || !strings.Contains(got.stderr, "No such file") {
		t.Errorf("a missing file: %+v", got)
	}
	opened := false
	for {
		e, err := watcher.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == access.EventFile && e.Command == "close" && e.Target == to && e.Bytes == uint64(len(data)) {
			opened = true
		}
		if e.Kind == access.EventClosed {
			break
		}
	}
	if !opened {
		t.Error("nobody was told of the file")
	}
	if got := run(t, l.copier(access.Grant{Permissions: &access.Permissions{Exec: true}}, "scp", from, host+to)); got.code == 0 {
		t.Error("sftp without permission")
	}
	l.quiet()
}
