//go:build linux

package scp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPair says the same to OpenSSH's far half and to ours, and compares what
// they answer, how they end, and what is there afterwards.
func TestPair(t *testing.T) {
	openssh, err := exec.LookPath("scp")
	if err != nil {
		t.Skip("no scp: apt-get install openssh-client")
	}
	yes := strings.Repeat("\x00", 100)
	for _, test := range []struct {
		args []string // the last is the target, or the only source
		sent string
	}{
		{[]string{"-t", "in"}, "C4755 1 x\nz\x00"},
		{[]string{"-t", "-p", "in"}, "C4755 1 x\nz\x00"},
		{[]string{"-t", "-r", "in"}, "D7755 0 d\nC0644 1 x\nz\x00E\n"},
		{[]string{"-t", "in"}, "C0644 +3 x\nabc\x00"},
		{[]string{"-t", "in"}, "T+1 0 1 0\nC0644 3 x\nabc\x00"},
		{[]string{"-t", ""}, "C0644 3 x\n"},
		{[]string{"-f", ""}, yes},
		{[]string{"-f", "-r", ""}, yes},

		{[]string{"-t", "in"}, "T1000 0 2000 0\nC0600 3 x\nabc\x00"},
		{[]string{"-t", "in"}, "C0644 3 link\nabc\x00C0644 1 dangling\nx\x00C0644 0 file\n\x00"},
		{[]string{"-t", "in"}, "C0644 3 x\r\nabc\x00C0644 3 x \nabc\x00"},
		{[]string{"-t", "in"}, "C0644 2 x\nab\x01trouble\nC0644 1 y\nz\x00"},
		{[]string{"-t", "in"}, "\x01trouble\nC0644 1 y\nz\x00"},
		{[]string{"-t", "in"}, "T1 0 1 0\nT2 0 2 0\nC0644 1 x\nz\x00"},
		{[]string{"-t", "-r", "in"}, "T5 0 6 0\nD0500 0 d\nC0444 1 y\nz\x00E\nC0644 0 after\n\x00"},
		{[]string{"-t", "-r", "in"}, "D0711 0 full\nC0644 1 n\nq\x00E\n"},
		{[]string{"-t", "-rp", "in"}, "D0711 0 full\nC0644 1 n\nq\x00E\n"},
		{[]string{"-t", "-r", "new"}, "D0755 0 d\nC0644 1 y\nz\x00E\n"},
		{[]string{"-t", "-r", "new/"}, "D0755 0 d\nC0644 1 y\nz\x00E\n"},
		{[]string{"-t", "new"}, "C0640 3 x\nabc\x00"},
		{[]string{"-t", "-p", "in/file"}, "T1000 0 2000 0\nC0600 3 x\nabc\x00"},
		{[]string{"-t", "-d", "in/file"}, ""},
		{[]string{"-t", "-d", "new"}, ""},

		{[]string{"-f", "in/file"}, yes},
		{[]string{"-f", "-p", "in/file"}, yes},
		{[]string{"-f", "in"}, yes},
		{[]string{"-f", "-r", "in/full/"}, yes},
		{[]string{"-f", "in/loop"}, yes},
		{[]string{"-f", "in/file/"}, yes},
		{[]string{"-f", "-r", "in/full"}, "\x00\x01no\n" + yes},
	} {
		name := fmt.Sprintf("%q %.30q", test.args, test.sent)
		dirs := [2]string{t.TempDir(), t.TempDir()}
		var outcomes [2]string
		for i, dir := range dirs {
			populate(t, dir)
			answer, failed := "", false
			if i == 0 {
				cmd := exec.Command(openssh, test.args...)
				cmd.Dir, cmd.Stdin = dir, strings.NewReader(test.sent)
				out, err := cmd.Output()
				answer, failed = string(out), err != nil
			} else {
				answer, failed = farHalf(t, dir, test.args, test.sent)
			}
			outcomes[i] = fmt.Sprintf("%q, failed %v, then\n%s", answer, failed, tree(t, dir))
		}
		// Each says what is wrong with a record in words of its own.
		if strings.Contains(outcomes[0], "protocol error") && strings.Contains(outcomes[1], "protocol error") {
			for i, dir := range dirs {
				outcomes[i] = tree(t, dir)
			}
		}
		if outcomes[0] != outcomes[1] {
			t.Errorf("%s\nOpenSSH: %s\nours: %s", name, outcomes[0], outcomes[1])
		}
	}
}

// farHalf is ours, as `guestd scp` calls it.
func farHalf(t *testing.T, dir string, args []string, sent string) (answer string, failed bool) {
	t.Helper()
	opts := Options{Files: files(t, dir), Umask: 0o022}
	for _, arg := range args[1 : len(args)-1] {
		opts.Recursive = opts.Recursive || strings.Contains(arg, "r")
		opts.Preserve = opts.Preserve || strings.Contains(arg, "p")
		opts.TargetDir = opts.TargetDir || strings.Contains(arg, "d")
	}
	s := &script{Reader: strings.NewReader(sent)}
	var err error
	if last := args[len(args)-1]; args[0] == "-t" {
		err = Sink(context.Background(), s, opts, last)
	} else {
		err = Source(context.Background(), s, opts, []string{last})
	}
	return s.said.String(), err != nil
}

// populate fills dir/in with what is in the way.
func populate(t *testing.T, dir string) {
	t.Helper()
	in := filepath.Join(dir, "in")
	old := time.Unix(86400, 0)
	if err := errors.Join(
		os.Mkdir(in, 0o755), os.Mkdir(filepath.Join(in, "full"), 0o750),
		os.WriteFile(filepath.Join(in, "file"), bytes.Repeat([]byte("f"), 20), 0o640),
		os.WriteFile(filepath.Join(in, "full", "x"), []byte("x"), 0o644),
		os.Symlink("file", filepath.Join(in, "link")), os.Symlink("nowhere", filepath.Join(in, "dangling")),
		os.Symlink("loop", filepath.Join(in, "loop")), os.Chtimes(filepath.Join(in, "file"), old, old),
		os.Chtimes(filepath.Join(in, "full"), old, old),
	); err != nil {
		t.Fatal(err)
	}
}

// tree is what is in dir, in words; times of this test's run are none.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%q %v", strings.TrimPrefix(path, dir), info.Mode())
		if info.ModTime().Unix() < 1<<30 {
			fmt.Fprintf(&out, " %d", info.ModTime().Unix())
		}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q", content)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
