package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// listing is about directories, trees and patterns.
func (s *suite) listing(t *testing.T) {
	t.Run("large directory", s.largeDirectory)
	t.Run("walk", s.walk)
	t.Run("walk forbidden", s.walkForbidden)
	t.Run("glob", s.glob)
}

// largeDirectory: what is there all the time is listed exactly once, whatever
// comes and goes meanwhile.
func (s *suite) largeDirectory(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.memory(t, "")+"/many"
	n := s.scale(100_000, 3_000)
	s.sh(t, "mkdir %s; cd %s; seq 0 %d | xargs touch; seq 0 499 | sed s/^/x/ | xargs touch", dir, dir, n-1)
	seen, pages := make([]int, n), 0
	for info, err := range files.ReadDir(ctx, dir, client.ReadDirOptions{}) {
		must(t, err)
		if number, err := strconv.Atoi(info.Name()); err == nil {
			seen[number]++
		}
		if pages++; pages == 1500 {
			s.sh(t, "cd %s; rm -f x*; seq 0 499 | sed s/^/y/ | xargs touch", dir)
		}
	}
	for number, times := range seen {
		if times != 1 {
			t.Fatalf("entry %d was listed %d times", number, times)
		}
	}
	walked := 0
	for _, err := range files.Walk(ctx, dir, client.WalkOptions{NamesOnly: true}) {
		must(t, err)
		walked++
	}
	if walked != n+500 {
		t.Errorf("walk finds %d entries, want %d", walked, n+500)
	}
	for _, err := range files.Walk(ctx, dir, client.WalkOptions{NamesOnly: true}) {
		must(t, err)
		break // leaves nothing behind in the agent, which the end of the suite checks
	}
	if removed, err := files.RemoveAll(ctx, dir); removed != int64(n+501) || err != nil {
		t.Errorf("%d entries were removed, %v; want %d", removed, err, n+501)
	}
}

// walked is what a walk gives, sorted.
func (s *suite) walked(t *testing.T, files *client.Files, dir string, o client.WalkOptions) (paths []string, problems []*client.WalkError) {
	t.Helper()
	for info, err := range files.Walk(s.context(t), dir, o) {
		var problem *client.WalkError
		if errors.As(err, &problem) {
			problems = append(problems, problem)
			continue
		}
		must(t, err)
		if parent := path.Dir(info.Path()); parent != "." && !slices.Contains(paths, parent) {
			t.Errorf("%s comes before its directory", info.Path())
		}
		paths = append(paths, info.Path())
	}
	slices.Sort(paths)
	return paths, problems
}

func (s *suite) walk(t *testing.T) {
	dir := s.path(t, "tree")
	s.sh(t, "mkdir -p %s/a/b/c %s/skip/deep; cd %s; : >a/file.o; : >a/b/file.c; : >a/b/c/file.o; : >skip/deep/x; ln -s a link; : >.hidden", dir, dir, dir)
	for _, c := range []struct {
		name string
		o    client.WalkOptions
		want string
	}{
		{"everything", client.WalkOptions{}, ".hidden a a/b a/b/c a/b/c/file.o a/b/file.c a/file.o link skip skip/deep skip/deep/x"},
		{"names only", client.WalkOptions{NamesOnly: true}, ".hidden a a/b a/b/c a/b/c/file.o a/b/file.c a/file.o link skip skip/deep skip/deep/x"},
		{"one level", client.WalkOptions{MaxDepth: 1}, ".hidden a link skip"},
		{"two levels", client.WalkOptions{MaxDepth: 2}, ".hidden a a/b a/file.o link skip skip/deep"},
		{"without a name", client.WalkOptions{Exclude: []string{"*.o", "skip"}}, ".hidden a a/b a/b/c a/b/file.c link"},
		{"without a path", client.WalkOptions{Exclude: []string{"a/b", "**/deep/*"}}, ".hidden a a/file.o link skip skip/deep"},
	} {
		paths, problems := s.walked(t, s.client.Files(), dir, c.o)
		if got := strings.Join(paths, " "); got != c.want || len(problems) > 0 {
			t.Errorf("%s: %s, %v\nwant %s", c.name, got, problems, c.want)
		}
	}
	if s.target.Mounts {
		s.sh(t, "mount -t tmpfs tmpfs %s/a/b; : >%s/a/b/other", dir, dir)
		defer func() { s.sh(t, "umount -l %s/a/b", dir) }()
		paths, problems := s.walked(t, s.client.Files(), dir, client.WalkOptions{OneFilesystem: true})
		if got := strings.Join(paths, " "); got != ".hidden a a/b a/file.o link skip skip/deep skip/deep/x" || len(problems) > 0 {
			t.Errorf("one filesystem: %s, %v", got, problems)
		}
	}
	for _, err := range s.client.Files().Walk(s.context(t), dir, client.WalkOptions{Exclude: []string{"["}}) {
		wantError(t, "bad pattern", err, client.ErrInvalidRequest)
	}
	for _, err := range s.client.Files().Walk(s.context(t), dir+"/none", client.WalkOptions{}) {
		wantError(t, "walk nothing", err, fs.ErrNotExist)
	}
}

// walkForbidden: what cannot be read is told, and the walk goes on.
func (s *suite) walkForbidden(t *testing.T) {
	user := s.needUser(t)
	dir := s.path(t, "tree")
	s.sh(t, "mkdir -p %s/closed/in %s/open; : >%s/open/file; chmod 700 %s/closed", dir, dir, dir, dir)
	paths, problems := s.walked(t, s.client.FilesAs(user, ""), dir, client.WalkOptions{})
	if got := strings.Join(paths, " "); got != "closed open open/file" {
		t.Errorf("the walk finds %s", got)
	}
	if len(problems) != 1 || problems[0].Path != "closed" || !errors.Is(problems[0], fs.ErrPermission) {
		t.Errorf("the walk complains of %v", problems)
	}
}

func (s *suite) glob(t *testing.T) {
	dir := s.path(t, "tree")
	s.sh(t, "mkdir -p %s/a/b %s/.h; cd %s; : >x.go; : >y.go; : >z.c; : >a/x.go; : >a/b/x.go; : >.h/x.go; : >'a/[1]'; ln -s a/b link", dir, dir, dir)
	for pattern, want := range map[string]string{
		"*.go":         "x.go y.go",
		"?.c":          "z.c",
		"[xz].*":       "x.go z.c",
		"[^xz].*":      "y.go",
		"{x,z}.{go,c}": "x.go z.c",
		"*/x.go":       ".h/x.go a/x.go link/x.go",
		"a/**/x.go":    "a/b/x.go a/x.go",
		"a/**":         "a a/[1] a/b a/b/x.go a/x.go",
		`a/\[1\]`:      "a/[1]",
		"none/*":       "",
		"*.none":       "",
	} {
		for _, base := range []struct {
			files  *client.Files
			prefix string
		}{{s.client.Files(), dir + "/"}, {s.client.FilesAs("", dir), ""}} {
			var got []string
			for info, err := range base.files.Glob(s.context(t), base.prefix+pattern) {
				must(t, err)
				got = append(got, strings.TrimPrefix(info.Path(), dir+"/"))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("%s%s: %q, want %q", base.prefix, pattern, got, want)
			}
		}
	}
	for _, pattern := range []string{"[", "{a", `a\`, ""} {
		var last error
		for _, err := range s.client.FilesAs("", dir).Glob(s.context(t), pattern) {
			last = err
		}
		wantError(t, fmt.Sprintf("glob %q", pattern), last, client.ErrInvalidRequest)
	}
	ctx, cancel := context.WithCancel(s.context(t))
	cancel()
	for _, err := range s.client.Files().Glob(ctx, "/**") {
		wantError(t, "cancelled", err, context.Canceled)
	}
}
