//go:build linux

package fsops

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
)

func TestMatcher(t *testing.T) {
	m, err := NewMatcher([]string{"*.o", "/build", "a/**/z", "node_modules/", "{x,y}.txt"})
	if err != nil {
		t.Fatal(err)
	}
	for rel, want := range map[string]bool{
		"f.o": true, "d/e/f.o": true, "build": true, "sub/build": false, "a/z": true, "a/b/c/z": true, "b/a/z": false,
		"p/node_modules": true, "d/x.txt": true, "z.txt": false, ".": false, "caf\xe9.o": true,
	} {
		if got := m.Match(rel); got != want {
			t.Errorf("%q: %v", rel, got)
		}
	}
	for _, bad := range []string{"[", "{a", "", "/", "a\\"} {
		if _, err := NewMatcher([]string{bad}); !errors.Is(err, ErrBadPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (*Matcher)(nil).Match("x") {
		t.Error("nil matches")
	}
}

func globPaths(t testing.TB, f *FS, pattern string) []string {
	t.Helper()
	var paths []string
	if err := f.Glob(bg(), pattern, func(path string) error {
		paths = append(paths, path)
		return nil
	}); err != nil {
		t.Fatalf("%q: %v", pattern, err)
	}
	slices.Sort(paths)
	return paths
}

func TestGlob(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "a/x.go", "a/y.c", "a/.hidden", "b/c/x.go", "b/c/d/x.go", "lone.go", "caf\xe9.go",
		"current -> b", "b/loop -> ..", "dangling -> none", "star*", "sp ace/[x]")
	for _, test := range []struct {
		pattern string
		want    []string
	}{
		{"*.go", []string{"caf\xe9.go", "lone.go"}},
		{"caf?.go", []string{"caf\xe9.go"}},
		{"a/*", []string{"a/.hidden", "a/x.go", "a/y.c"}},
		{"**/x.go", []string{"a/x.go", "b/c/d/x.go", "b/c/x.go"}},
		{"b/**/**/x.go", []string{"b/c/d/x.go", "b/c/x.go"}},
		{"current/*/x.go", []string{"current/c/x.go"}},
		{"current/**/x.go", []string{"current/c/d/x.go", "current/c/x.go"}},
		{"{a,b/c}/x.{go,c}", []string{"a/x.go", "b/c/x.go"}},
		{"{a,a}/x.go", []string{"a/x.go"}},
		{"[a-b]/", []string{"a", "b"}},
		{"*/", []string{"a", "b", "current", "sp ace"}},
		{"dang*", []string{"dangling"}},
		{"star\\*", []string{"star*"}},
		{"sp ace/\\[x\\]", []string{"sp ace/[x]"}},
		{"a/**", []string{"a", "a/.hidden", "a/x.go", "a/y.c"}},
		{"b/../lone.go", []string{"b/../lone.go"}},
		{"*/../lone.go", []string{"a/../lone.go", "b/../lone.go", "current/../lone.go", "sp ace/../lone.go"}},
		{"./lone.*", []string{"lone.go"}},
		{`a/\./x.go`, []string{"a/x.go"}},
		{"none/*", nil},
		{"lone.go/*", nil},
		{dir + "/l*", []string{dir + "/lone.go"}},
		{"/", []string{"/"}},
	} {
		if got := globPaths(t, f, test.pattern); !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, want %q", test.pattern, got, test.want)
		}
	}
	f.id.Home = dir
	if got := globPaths(t, f, "~/lon*"); !slices.Equal(got, []string{dir + "/lone.go"}) {
		t.Errorf("tilde: %q", got)
	}
	for _, bad := range []string{"[", "a/{b", "x\\", strings.Repeat("{a,b}", 20)} {
		err := f.Glob(bg(), bad, nil)
		var pe *fs.PathError
		if !errors.Is(err, ErrBadPattern) || !errors.As(err, &pe) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	wantErrno(t, f.Glob(bg(), "", nil), "", syscall.ENOENT)
	wantErrno(t, f.Glob(bg(), "*\x00", nil), "*\x00", syscall.EINVAL)
	stop := errors.New("stop")
	if err := f.Glob(bg(), "*", func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of fn: %v", err)
	}
}

// Directories that cannot be read can still be passed through by name.
func TestGlobThroughUnreadable(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "d/e/file")
	if err := os.Chmod(filepath.Join(dir, "d"), 0o711); err != nil {
		t.Fatal(err)
	}
	if got := globPaths(t, f, "d/e/*"); !slices.Equal(got, []string{"d/e/file"}) {
		t.Errorf("%q", got)
	}
	if got := globPaths(t, f, "d/*"); got != nil {
		t.Errorf("%q", got)
	}
}

// FuzzGlob compares with matching every path of a tree one by one.
func FuzzGlob(f *testing.F) {
	for _, seed := range []string{"*", "**", "a/**", "**/x.go", "{a,b/c}/x", "[a-c]/?", "a/*/c", "\\*", "{a,{b,c}/x.go}", "**/**", "a**", "[{]", "{,a}x", "*/", `*/\.`} {
		f.Add(seed)
	}
	view, dir := ownFS(f)
	makeTree(f, dir, "a/x.go", "a/b/c", "b/c/x", "b/c/x.go", "x", "xx", "{", "*", "a/b/x.go", "c/")
	var all []string
	if err := view.Walk(bg(), ".", WalkOptions{}, func(entries []WalkEntry) error {
		for _, e := range entries {
			all = append(all, e.Path)
		}
		return nil
	}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		// Not all over the machine.
		plain := strings.ReplaceAll(pattern, `\`, "")
		if strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "~") || strings.Contains(plain, "..") {
			return
		}
		var got []string
		err := view.Glob(bg(), pattern, func(path string) error {
			got = append(got, path)
			return nil
		})
		if err != nil {
			return
		}
		slices.Sort(got)
		if c := slices.Compact(slices.Clone(got)); len(c) != len(got) {
			t.Fatalf("%q: twice in %q", pattern, got)
		}
		// The pattern's own slashes mean something that Match does not know.
		for _, special := range []string{"//", "./", "/.", "~"} {
			if strings.Contains(plain, special) || strings.Contains(pattern, `\/`) || strings.Contains(pattern, "{") && strings.Contains(pattern, "/") {
				return
			}
		}
		if plain == "." || strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") {
			return
		}
		// Match lets "a/**" match "a", as Glob does, but not "a*/**"; and they
		// differ about stars in a row that are no element of their own.
		if strings.HasSuffix(pattern, "/**") {
			return
		}
		for element := range strings.SplitSeq(pattern, "/") {
			if strings.Contains(element, "**") && element != "**" {
				return
			}
		}
		var want []string
		for _, path := range all {
			if ok := doublestar.MatchUnvalidated(pattern, path); ok && path != "." {
				want = append(want, path)
			}
		}
		slices.Sort(want)
		got = slices.DeleteFunc(got, func(p string) bool { return p == "." })
		if !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", pattern, got, want)
		}
	})
}
