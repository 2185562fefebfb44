//go:build linux || darwin

package archive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// snapshot describes everything below root that an archive is to preserve, one
// line per entry, so that two trees can be compared and differences read.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	first := map[fileID]string{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		i := fileInfo(&st)
		rel, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%q mode %o owner %d:%d mtime %d.%09d", rel, i.mode, i.uid, i.gid, i.mtime.Unix(), i.mtime.Nanosecond())
		switch i.typ() {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		case unix.S_IFREG:
			sum, err := contentSum(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d %s", i.size, sum)
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" rdev %d", i.rdev)
		}
		if i.linked && i.typ() != unix.S_IFDIR {
			id := fileID{i.dev, i.ino}
			if other, ok := first[id]; ok {
				line += fmt.Sprintf(" same as %q", other)
			} else {
				first[id] = rel
			}
		}
		if i.typ() == unix.S_IFREG || i.typ() == unix.S_IFDIR {
			line += attrText(path)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func attrText(path string) string {
	names, err := readXattr(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	if err != nil {
		return ""
	}
	var attrs []string
	for name := range strings.SplitSeq(string(names), "\x00") {
		if carriedXattr(name) {
			value, _ := readXattr(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
			attrs = append(attrs, fmt.Sprintf(" %s=%q", name, value))
		}
	}
	sort.Strings(attrs)
	return strings.Join(attrs, "")
}

func pack(t *testing.T, root string, opts PackOptions) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	sum, err := Pack(context.Background(), &b, root, opts)
	if err != nil {
		t.Fatalf("Pack: %v", err)
	}
	return b.Bytes(), sum
}

func unpack(t *testing.T, data []byte, dest string, opts UnpackOptions) Summary {
	t.Helper()
	sum, err := Unpack(context.Background(), bytes.NewReader(data), dest, opts)
	if err != nil {
		t.Fatalf("Unpack: %v", err)
	}
	return sum
}

// tempDir is t.TempDir for trees whose directories may be closed to their owner,
// which would keep the removal out.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	})
	return dir
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func setTime(t *testing.T, path string, sec, nsec int64) {
	t.Helper()
	if err := setLinkTime(unix.AT_FDCWD, path, time.Unix(sec, nsec)); err != nil {
		t.Fatal(err)
	}
}

// sameTree fails with the lines in which two snapshots differ.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	in := func(lines string) map[string]bool {
		m := map[string]bool{}
		for l := range strings.SplitSeq(lines, "\n") {
			m[l] = true
		}
		return m
	}
	w, g := in(want), in(got)
	for l := range w {
		if !g[l] {
			t.Errorf("lost:  %s", l)
		}
	}
	for l := range g {
		if !w[l] {
			t.Errorf("found: %s", l)
		}
	}
	t.FailNow()
}
