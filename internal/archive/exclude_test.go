//go:build linux || darwin

package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExcluder(t *testing.T) {
	tests := []struct {
		patterns string // separated by blanks
		path     string // with a slash at the end: a directory
		want     bool
	}{
		{"", "a", false},
		{"*.o", "a.o", true},
		{"*.o", "x/y/a.o", true},
		{"*.o", "a.go", false},
		{"*.o", ".o", true},
		{"node_modules", "x/node_modules/", true},
		{"node_modules", "x/node_modules2/", false},
		{"/build", "build", true},
		{"/build", "x/build", false},
		{"docs/*.pdf", "docs/a.pdf", true},
		{"docs/*.pdf", "docs/x/a.pdf", false},
		{"docs/*.pdf", "x/docs/a.pdf", false},
		{"a/**/b", "a/b", true},
		{"a/**/b", "a/x/y/b", true},
		{"**/tmp/*", "x/tmp/f", true},
		{"**/tmp/*", "tmp/f", true},
		{"cache/", "cache/", true},
		{"cache/", "x/cache/", true},
		{"cache/", "cache", false},
		{"*.log !keep.log", "a.log", true},
		{"*.log !keep.log", "x/keep.log", false},
		{"!keep.log *.log", "keep.log", true},
		{"{a,b}[0-9]", "b7", true},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{"?", "\xff", true},
		{"*", "a\xffb", true},
	}
	for _, tt := range tests {
		x, err := newExcluder(strings.Fields(tt.patterns))
		if err != nil {
			t.Fatal(err)
		}
		path, isDir := strings.CutSuffix(tt.path, "/")
		if got := x.excludes(path, isDir); got != tt.want {
			t.Errorf("%q excludes %q: %v", tt.patterns, tt.path, got)
		}
	}
	for _, bad := range []string{"", "/", "!", "!/", "[", "a/[b", "{a"} {
		if _, err := newExcluder([]string{bad}); !errors.Is(err, ErrPattern) {
			t.Errorf("pattern %q: error %v", bad, err)
		}
	}
}

// Packing without what is excluded, and unpacking without it, come to the same.
func TestExclude(t *testing.T) {
	src := tempDir(t)
	for _, name := range []string{"a.o", "a.c", "sub/b.o", "sub/b.c", "build/x", "build/y/z", "sub/build/x", "zlast"} {
		writeFile(t, filepath.Join(src, name), name)
	}
	if err := os.Link(src+"/a.o", src+"/kept"); err != nil {
		t.Fatal(err)
	}
	exclude := []string{"*.o", "/build"}
	want := []string{".", "a.c", "kept", "sub", "sub/b.c", "sub/build", "sub/build/x", "zlast"}

	data, sum := pack(t, src+"/", PackOptions{Exclude: exclude, Sort: true})
	dest := tempDir(t)
	unpack(t, data, dest, UnpackOptions{})
	if got := names(t, dest); !slices.Equal(got, want) {
		t.Errorf("packed without: %q, want %q", got, want)
	}
	if sum.Excluded != 3 {
		t.Errorf("summary %+v", sum)
	}
	whole, _ := pack(t, src, PackOptions{Sort: true})
	dest = tempDir(t)
	sum = unpack(t, whole, dest, UnpackOptions{Exclude: exclude, StripComponents: 1})
	want = slices.DeleteFunc(want, func(s string) bool { return s == "kept" })
	if got := names(t, dest); !slices.Equal(got, want) {
		t.Errorf("unpacked without: %q, want %q", got, want)
	}
	if sum.Excluded != 6 || sum.NoteCount != 1 || sum.Notes[0].Reason != ReasonNoTarget {
		t.Errorf("summary %+v", sum)
	}
	if _, err := Unpack(t.Context(), bytes.NewReader(whole), tempDir(t), UnpackOptions{Exclude: []string{"["}}); !errors.Is(err, ErrPattern) {
		t.Errorf("bad pattern: %v", err)
	}
}

func names(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		all = append(all, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
