//go:build linux || darwin

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tarOf writes an archive with package archive/tar, which forbids nothing.
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := h.Uname // the content travels there
		h.Uname = ""
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func regular(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: "evil"}
}
func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}
func hardlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}
func directory(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name}
}

// cage is a directory with a destination in it and canaries around that.
type cage struct{ outside, dest, before string }

func newCage(t *testing.T) cage {
	t.Helper()
	top := tempDir(t)
	c := cage{outside: top + "/outside", dest: top + "/outside/dest"}
	writeFile(t, c.outside+"/canary", "alive")
	writeFile(t, c.outside+"/other/file", "alive")
	if err := os.Mkdir(c.dest, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, target := range map[string]string{
		"out": c.outside, "up": "..", "file": c.outside + "/canary", "sub/out": "../../other", "self": ".",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(c.dest, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(c.dest, path)); err != nil {
			t.Fatal(err)
		}
	}
	c.before = c.state(t)
	return c
}

// state is everything outside dest. Its own line is cut off: the time of the
// directory that holds dest is not dest's business, dest's own is.
func (c cage) state(t *testing.T) string {
	t.Helper()
	var lines []string
	for l := range strings.SplitSeq(snapshot(t, c.outside), "\n") {
		if !strings.HasPrefix(l, `"dest`) {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

func TestUnsafeEntries(t *testing.T) {
	tests := []struct {
		name    string
		entries []tar.Header
		entry   string // named by the error
	}{
		{"parent", []tar.Header{regular("../evil")}, "../evil"},
		{"parent inside", []tar.Header{regular("a/../../evil")}, "a/../../evil"},
		{"parent harmless", []tar.Header{regular("a/../b")}, "a/../b"},
		{"parent dir", []tar.Header{directory("../evil/")}, "../evil/"},
		{"parent alone", []tar.Header{directory("..")}, ".."},
		{"parent link", []tar.Header{symlink("../evil", "x")}, "../evil"},
		{"absolute", []tar.Header{regular("/evil")}, "/evil"},
		{"absolute dir", []tar.Header{directory("/")}, "/"},
		{"slashes", []tar.Header{regular("//evil")}, "//evil"},
		{"dest as file", []tar.Header{regular(".")}, "."},
		{"dest as link", []tar.Header{symlink("./", "/etc")}, "./"},
		{"planted link", []tar.Header{symlink("l", ".."), regular("l/evil")}, "l/evil"},
		{"planted absolute link", []tar.Header{symlink("l", "/tmp"), regular("l/evil")}, "l/evil"},
		{"planted link chain", []tar.Header{symlink("l", "m"), symlink("m", ".."), regular("l/evil")}, "l/evil"},
		{"planted link below", []tar.Header{directory("d/"), symlink("d/l", "../.."), regular("d/l/evil")}, "d/l/evil"},
		{"planted link made directory", []tar.Header{symlink("l", ".."), directory("l/")}, "l/"},
		{"planted link deep", []tar.Header{symlink("l", ".."), directory("l/a/b/")}, "l/a/b/"},
		{"link to here", []tar.Header{symlink("l", "."), regular("l/f")}, "l/f"},
		{"link where link leads out", []tar.Header{symlink("l", ".."), symlink("l/evil", "x")}, "l/evil"},
		{"existing link", []tar.Header{regular("out/evil")}, "out/evil"},
		{"existing relative link", []tar.Header{regular("up/evil")}, "up/evil"},
		{"existing link below", []tar.Header{regular("sub/out/evil")}, "sub/out/evil"},
		{"existing link as directory", []tar.Header{directory("out/")}, "out/"},
		{"existing link to here", []tar.Header{regular("self/f")}, "self/f"},
		{"hard link to parent", []tar.Header{hardlink("h", "../canary"), regular("h")}, "h"},
		{"hard link to absolute", []tar.Header{hardlink("h", "/etc/passwd")}, "h"},
		{"hard link through existing link", []tar.Header{hardlink("h", "out/canary")}, "h"},
		{"hard link through planted link", []tar.Header{symlink("l", ".."), hardlink("h", "l/canary")}, "h"},
		{"hard link to dest", []tar.Header{hardlink("h", ".")}, "h"},
		{"hard link from outside", []tar.Header{regular("f"), hardlink("../evil", "f")}, "../evil"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCage(t)
			data := tarOf(t, append([]tar.Header{regular("first")}, tt.entries...)...)
			_, err := Unpack(context.Background(), bytes.NewReader(data), c.dest, UnpackOptions{PreserveOwner: true})
			var unsafe *UnsafeEntryError
			if !errors.As(err, &unsafe) || unsafe.Name != tt.entry {
				t.Errorf("error %v, want unsafe %q", err, tt.entry)
			}
			if got, err := os.ReadFile(c.dest + "/first"); err != nil || string(got) != "evil" {
				t.Errorf("entry before it: %q, %v", got, err)
			}
			sameTree(t, c.before, c.state(t))
		})
	}
}

// What looks dangerous but is not must work, without touching anything outside.
func TestContainedEntries(t *testing.T) {
	tests := []struct {
		name    string
		entries []tar.Header
		path    string
		want    string // content, or "-> target"
	}{
		{"file over link", []tar.Header{regular("file")}, "file", "evil"},
		{"file over planted link", []tar.Header{symlink("l", "../canary"), regular("l")}, "l", "evil"},
		{"link over file", []tar.Header{regular("f"), symlink("f", "../canary")}, "f", "-> ../canary"},
		{"link over link", []tar.Header{symlink("file", "/")}, "file", "-> /"},
		{"hard link to a link", []tar.Header{hardlink("h", "file"), regular("h")}, "h", "evil"},
		{"hard link kept apart", []tar.Header{regular("f"), hardlink("h", "f"), {Typeflag: tar.TypeReg, Name: "h", Uname: "new"}}, "f", "evil"},
		{"hard link to itself", []tar.Header{regular("f"), hardlink("f", "f")}, "f", "evil"},
		{"hard link over its twin", []tar.Header{regular("f"), hardlink("h", "f"), hardlink("h", "f")}, "h", "evil"},
		{"dots and slashes", []tar.Header{regular(".//a/./b")}, "a/b", "evil"},
		{"dots in names", []tar.Header{regular("..a/...")}, "..a/...", "evil"},
		{"backslashes", []tar.Header{regular(`..\evil`)}, `..\evil`, "evil"},
		{"mode of a link's target", []tar.Header{{Typeflag: tar.TypeSymlink, Name: "file", Linkname: "../canary", Mode: 0o777}}, "file", "-> ../canary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCage(t)
			unpack(t, tarOf(t, tt.entries...), c.dest, UnpackOptions{PreserveOwner: true})
			path := filepath.Join(c.dest, tt.path)
			got, err := os.Readlink(path)
			if err == nil {
				got = "-> " + got
			} else if b, err := os.ReadFile(path); err == nil {
				got = string(b)
			}
			if got != tt.want {
				t.Errorf("%s is %q, want %q", tt.path, got, tt.want)
			}
			if tmp, _ := filepath.Glob(c.dest + "/.unpack-*"); len(tmp) > 0 {
				t.Errorf("left behind: %q", tmp)
			}
			sameTree(t, c.before, c.state(t))
		})
	}
}

func TestStripDoesNotOpenWays(t *testing.T) {
	for _, entry := range []tar.Header{
		regular("a/../../evil"), regular("/a/evil"), hardlink("a/h", "a/../../canary"), hardlink("a/h", "/a/canary"),
	} {
		c := newCage(t)
		_, err := Unpack(context.Background(), bytes.NewReader(tarOf(t, entry)), c.dest, UnpackOptions{StripComponents: 1})
		var unsafe *UnsafeEntryError
		if !errors.As(err, &unsafe) {
			t.Errorf("%q: error %v", entry.Name, err)
		}
		sameTree(t, c.before, c.state(t))
	}
}

// FuzzUnpack feeds anything to Unpack. Whatever it says, what is outside the
// destination stays as it is.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, directory("d/"), regular("d/f"), symlink("l", "d"), hardlink("h", "d/f")))
	f.Add(tarOf(f, symlink("l", ".."), regular("l/evil")))
	f.Add(tarOf(f, regular(strings.Repeat("long/", 60)+"ü")))
	src := f.TempDir()
	if err := os.WriteFile(src+"/sparse", nil, 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.Truncate(src+"/sparse", 1<<20); err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := Pack(context.Background(), &b, src, PackOptions{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newCage(t)
		limits := Limits{MaxEntries: 1000, MaxBytes: 1 << 20}
		opts := UnpackOptions{PreserveOwner: true, Xattrs: true, Limits: limits}
		_, _ = Unpack(t.Context(), bytes.NewReader(fixChecksums(data)), c.dest, opts)
		if after := c.state(t); after != c.before {
			t.Fatalf("outside before:\n%s\nafter:\n%s", c.before, after)
		}
	})
}

// fixChecksums makes blocks that look like headers valid, so that the fuzzer
// gets past the checksum.
func fixChecksums(data []byte) []byte {
	data = bytes.Clone(data)
	for i := 0; i+blockSize <= len(data); i += blockSize {
		b := data[i : i+blockSize]
		if string(b[offMagic:offMagic+5]) != "ustar" {
			continue
		}
		sum := int64(' ' * 8)
		for j, c := range b {
			if j < offChecksum || j >= offType {
				sum += int64(c)
			}
		}
		putOctal(b[offChecksum:offType], sum)
	}
	return data
}
