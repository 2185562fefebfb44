//go:build linux

package scp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// script is a peer that says all of its lines at once.
type script struct {
	io.Reader
	said bytes.Buffer // by us
}

func (s *script) Write(p []byte) (int, error) { return s.said.Write(p) }

func files(t testing.TB, dir string) *fsops.FS {
	t.Helper()
	system, err := fsops.New(fsops.Config{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := system.Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// receive is a Sink in a new directory "in", and what we said.
func receive(t *testing.T, sent string, opts Options) (dir, said string, err error) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	opts.Files = files(t, dir)
	s := &script{Reader: strings.NewReader(sent)}
	err = Sink(context.Background(), s, opts, "in")
	return dir, s.said.String(), err
}

func TestSink(t *testing.T) {
	dir, said, err := receive(t, "T1000 0 2000 500000\nD0700 0 d\nC4711 3 x\nabc\x00C0444 0 ~root\n\x00E\nC0666 2 \xff y\nhi\x00",
		Options{Recursive: true, Umask: 0o022})
	if err != nil || strings.Trim(said, "\x00") != "" {
		t.Fatalf("%v; said %q", err, said)
	}
	// Without -p no setuid bit.
	for name, want := range map[string]string{"d/x": "-rwx--x--x 3", "d/~root": "-r--r--r-- 0", "\xff y": "-rw-r--r-- 2"} {
		info, err := os.Stat(filepath.Join(dir, "in", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprint(info.Mode(), " ", info.Size()); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if info, _ := os.Stat(filepath.Join(dir, "in", "d")); info.ModTime().Unix() != 1000 || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.ModTime(), info.Mode())
	}
}

// No line makes a file outside of the target, and none is taken for another.
func TestSinkRefuses(t *testing.T) {
	for _, line := range []string{
		"C0644 1 ../x", "C0644 1 /tmp/x", "C0644 1 ..", "C0644 1 .", "C0644 1 ", "D0755 0 ..", "D0755 0 a/b", "C0644 1 a\x00b",
		"C644 1 x", "C00644 1 x", "C0888 1 x", "C-644 1 x", "C0644 -1 x", "C0644 99999999999999999999 x", "C0644 x x", "C0644", "C0644 1",
		"T1 0 1\n", "T-1 0 1 0", "T1 1000000 1 0", "Tx 0 1 0", "T1 0 1 0 0", "E", "X", "\n", strings.Repeat("C", 3000), "ssh: banner",
	} {
		dir, _, err := receive(t, line+"\nx\x00", Options{Recursive: true})
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%.40q: %v", line, err)
		}
		outside, _ := os.ReadDir(dir)
		inside, _ := os.ReadDir(filepath.Join(dir, "in"))
		if len(outside) != 1 || len(inside) != 0 {
			t.Errorf("%.40q made %v %v", line, outside, inside)
		}
	}
	if _, _, err := receive(t, "D0755 0 d\nE\n", Options{}); !errors.Is(err, ErrProtocol) {
		t.Errorf("directory without -r: %v", err)
	}
}

func TestSinkErrors(t *testing.T) {
	for sent, want := range map[string]error{
		"":                     nil,
		"\x01scp: trouble\n":   ErrIncomplete,
		"\x02scp: the end\n":   ErrIncomplete,
		"C0644 5 x\nab":        io.ErrUnexpectedEOF,
		"C0644 2 x\nab":        io.ErrUnexpectedEOF,
		"C0644 2 x\nab\x01e\n": ErrIncomplete,
		"C0644":                io.ErrUnexpectedEOF,
		"D0755 0 d\n":          io.ErrUnexpectedEOF,
		"C0644 1 y\nx\x00":     nil,
	} {
		if _, _, err := receive(t, sent, Options{Recursive: true}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", sent, err, want)
		}
	}
}

func TestSource(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "A", "new\nline\\": "", "~": "tilde"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &script{Reader: strings.NewReader(strings.Repeat("\x00", 100))}
	err := Source(context.Background(), s, Options{Files: files(t, dir)}, []string{"a", "none", "fifo", ".", "new\nline\\", "~"})
	want := "C0640 1 a\nA\x00" + "\x01scp: none: No such file or directory\n" + "\x01scp: fifo: not a regular file\n" +
		"\x01scp: .: not a regular file\n" + "C0640 0 new\\^Jline\\\\\n\x00" + "C0640 5 ~\ntilde\x00"
	if !errors.Is(err, ErrIncomplete) || s.said.String() != want {
		t.Errorf("%v; said\n%q, want\n%q", err, s.said.String(), want)
	}
	// A peer that does not want one gets the next.
	s = &script{Reader: strings.NewReader("\x00\x01no\n" + strings.Repeat("\x00", 10))}
	err = Source(context.Background(), s, Options{Files: files(t, dir)}, []string{"a", "~"})
	if !errors.Is(err, ErrIncomplete) || s.said.String() != "C0640 1 a\nC0640 5 ~\ntilde\x00" {
		t.Errorf("%v; said %q", err, s.said.String())
	}
	// One that is gone ends it.
	s = &script{Reader: strings.NewReader("\x00")}
	if err := Source(context.Background(), s, Options{Files: files(t, dir)}, []string{"a"}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("peer gone: %v", err)
	}
}

// A file that is shorter than was announced is filled up, and reported.
func TestShrunk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &script{Reader: strings.NewReader("")}
	p := newPeer(s, Options{Files: files(t, dir)})
	file, err := p.Files.Open(context.Background(), filepath.Join(dir, "f"), fsops.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	failure, err := p.sendContent(context.Background(), file, bufferSize+5)
	_ = p.w.Flush()
	if !errors.Is(failure, errShrunk) || err != nil || s.said.String() != "abc"+strings.Repeat("\x00", bufferSize+2) {
		t.Errorf("%v, %v, %d bytes", failure, err, s.said.Len())
	}
}

func FuzzSink(f *testing.F) {
	f.Add("T1000 0 2000 0\nD0700 0 d\nC4711 3 x\nabc\x00E\nC0666 2 y\nhi\x00")
	f.Add("C0644 1 ../x\nx\x00")
	f.Add("\x01oh\nE\n")
	f.Fuzz(func(t *testing.T, sent string) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
			t.Fatal(err)
		}
		s := &script{Reader: strings.NewReader(sent)}
		_ = Sink(context.Background(), s, Options{Files: files(t, dir), Recursive: true, Preserve: true}, "in")
		if outside, err := os.ReadDir(dir); err != nil || len(outside) != 1 {
			t.Errorf("%v made, %v", outside, err)
		}
	})
}

// FuzzSource: whatever the other half answers, a source ends, says no more than
// to one that agrees to everything, and does not forget what it could not send.
func FuzzSource(f *testing.F) {
	dir := f.TempDir()
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.WriteFile(filepath.Join(dir, "d", "x"), []byte("content"), 0o644),
		os.WriteFile(filepath.Join(dir, "y"), nil, 0o600),
	); err != nil {
		f.Fatal(err)
	}
	opts := Options{Files: files(f, dir), Recursive: true, Preserve: true}
	send := func(answers string) (said int, err error) {
		s := &script{Reader: strings.NewReader(answers)}
		err = Source(context.Background(), s, opts, []string{"d", "none", "y"})
		return s.said.Len(), err
	}
	yes := strings.Repeat("\x00", 20)
	most, _ := send(yes)
	f.Add(yes)
	f.Add("\x00\x00\x01no\n\x00\x00\x02the end\n")
	f.Add("\x00\x01")
	f.Add("\x00sshd: a banner\n\x00")
	f.Fuzz(func(t *testing.T, answers string) {
		said, err := send(answers)
		if err == nil || said > most {
			t.Errorf("%d bytes of %d, %v", said, most, err)
		}
	})
}
