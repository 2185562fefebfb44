//go:build linux

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// startAudit runs audit and returns when it watches. Its stdout is read line by
// line; wait ends with it.
func startAudit(t *testing.T, socket string, args ...string) (lines *bufio.Scanner, wait func() error) {
	t.Helper()
	cmd := guestctl(t, socket, append([]string{"audit"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := bufio.NewScanner(stderr)
	if !told.Scan() || !strings.Contains(told.Text(), "watching") {
		t.Fatalf("audit: %q instead of watching", told.Text())
	}
	return bufio.NewScanner(stdout), cmd.Wait
}

func TestAudit(t *testing.T) {
	socket := newAgent(t)
	lines, wait := startAudit(t, socket, "-n", "2")
	jsonLines, jsonWait := startAudit(t, socket, "-n", "2", "--json")
	outputOf(t, socket, "grant", "--secret", "--id", "a", "-u", "ann", "--label", "here", "--client", "192.0.2.1:22")
	outputOf(t, socket, "revoke", "a")
	for _, want := range []string{
		" granted    user ann grant a (here) from 192.0.2.1:22", " revoked    user ann grant a (here) from 192.0.2.1:22",
	} {
		if !lines.Scan() || !strings.HasSuffix(lines.Text(), want) {
			t.Errorf("audit prints %q, not …%q", lines.Text(), want)
		}
	}
	for _, want := range []string{
		`"event":"granted","grant":"a","label":"here","user":"ann","client":"192.0.2.1:22"}`, `"event":"revoked"`,
	} {
		if !jsonLines.Scan() || !strings.Contains(jsonLines.Text(), want) {
			t.Errorf("audit --json prints %q without %q", jsonLines.Text(), want)
		}
	}
	for _, end := range []func() error{wait, jsonWait} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

// The loss that comes with a recorded event is told with the next that is printed.
func TestAuditTellsLossWhileRecording(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.cast")
	recorder, err := newRecorder(path)
	if err != nil {
		t.Fatal(err)
	}
	events := []client.SSHEvent{
		{Type: client.SSHTerminal, Session: "s", Missed: 3, Terminal: &client.SSHTerminalData{Cast: []byte("line\n")}},
		{Type: client.SSHExec, Session: "s", Command: "true", Missed: 2},
		{Type: client.SSHChannelEnded, Session: "s"},
	}
	next := func() (client.SSHEvent, error) {
		event := events[0]
		events = events[1:]
		return event, nil
	}
	var stdout bytes.Buffer
	a := newApp(nil, &stdout, io.Discard, os.LookupEnv)
	if err := a.printEvents(&auditFlags{record: path, count: 2}, recorder, next); err != nil {
		t.Fatal(err)
	}
	if text := stdout.String(); !strings.HasPrefix(text, "(5 events were lost here)\n") || strings.Count(text, "lost") != 1 {
		t.Errorf("printed %q", text)
	}
}

func TestAuditLine(t *testing.T) {
	for want, event := range map[string]client.SSHEvent{
		"s/1 [terminal] make test":            {Type: client.SSHExec, Session: "s", Channel: "1", TTY: true, Command: "make test"},
		"s by vsock: no such credential":      {Type: client.SSHRefused, Session: "s", Peer: "vsock", Reason: "no such credential"},
		"s received 1.0 KiB, sent 2 B: ended": {Type: client.SSHClosed, Session: "s", Received: 1024, Sent: 2, Reason: "ended"},
		"s/2 write /etc/motd (3 B): denied":   {Type: client.SSHFile, Session: "s", Channel: "2", Command: "write", Target: "/etc/motd", Bytes: 3, Reason: "denied"},
		"s/1 80x24 $ ls\r\n": {Type: client.SSHTerminal, Session: "s", Channel: "1", Terminal: &client.SSHTerminalData{
			Output: []byte("$ ls\r\n"), Size: client.TerminalSize{Rows: 24, Columns: 80},
		}},
	} {
		if got := auditLine(&event); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestRecorder(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "demo.cast")
	r, err := newRecorder(first)
	if err != nil {
		t.Fatal(err)
	}
	show := func(session, text string) {
		t.Helper()
		event := client.SSHEvent{
			Type: client.SSHTerminal, Session: session, Channel: "1", Terminal: &client.SSHTerminalData{Cast: []byte(text)},
		}
		if err := r.write(&event); err != nil {
			t.Fatal(err)
		}
	}
	show("a", "header a\n")
	show("b", "header b\n")
	show("a", "")
	show("a", "line a\n")
	r.closed("a")
	show("b", "line b\n")
	for name, want := range map[string]string{"demo.cast": "header a\nline a\n", "demo.2.cast": "header b\nline b\n"} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
	if len(r.files) != 1 {
		t.Errorf("%d files are remembered, of one session", len(r.files))
	}
	if _, err := newRecorder(first); err == nil {
		t.Error("a recording is overwritten")
	}
	// One that appears meanwhile stays as it is too.
	third := filepath.Join(dir, "demo.3.cast")
	if err := os.WriteFile(third, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	event := client.SSHEvent{Type: client.SSHTerminal, Session: "c", Terminal: &client.SSHTerminalData{Cast: []byte("x")}}
	if err := r.write(&event); err == nil {
		t.Error("a file that appeared is overwritten")
	}
}

func TestParsePermissions(t *testing.T) {
	if p, err := parsePermissions(nil); p != nil || err != nil {
		t.Errorf("nothing: %v, %v", p, err)
	}
	p, err := parsePermissions([]string{"pty, sftp", "local-tcp=[::1]:80", "local-unix=/run/*", "local-unix"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(permissionWords(p), " "); got != "pty sftp local-tcp=[::1]:80 local-unix" {
		t.Error(got)
	}
}

func TestLifetimeAndCount(t *testing.T) {
	for text, want := range map[string]lifetime{"never": -1, "1s": 1e9, "0s": 0, "-1s": 0, "": 0, "1": 0} {
		var l lifetime
		if err := l.Set(text); (err == nil) != (want != 0) || l != want {
			t.Errorf("%q: %v, %v", text, l, err)
		}
	}
	for text, want := range map[string]count{"unlimited": -1, "-1": -1, "7": 7, "0": 0, "-2": 0, "1e3": 0, "99999999999": 0} {
		var c count
		if err := c.Set(text); (err == nil) != (want != 0) || c != want {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	}
}

// TestKeyFileIsBounded names a file that never ends.
func TestKeyFileIsBounded(t *testing.T) {
	a := newApp(strings.NewReader(""), io.Discard, io.Discard, os.LookupEnv)
	if _, err := a.readPublicKey("/dev/zero"); err == nil {
		t.Error("/dev/zero holds a key")
	}
}
