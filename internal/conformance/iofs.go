package conformance

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// iofs is about a guest's directory as package io/fs sees it.
func (s *suite) iofs(t *testing.T) {
	dir := s.path(t, "root")
	s.sh(t, "mkdir -p %s/a/b %s/empty; cd %s; echo 1 >one; echo 22 >a/two; echo 333 >a/b/three; ln -s one link; ln -s a/b dirlink; : >.hidden; : >'with space'", dir, dir, dir)
	fsys := s.client.FSAs("", dir).WithContext(s.context(t))
	t.Run("TestFS", func(t *testing.T) {
		if err := fstest.TestFS(fsys, "one", "a/two", "a/b/three", "link", "empty", ".hidden", "with space"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ReadFile", func(t *testing.T) {
		for name, want := range map[string]string{"one": "1\n", "link": "1\n", "a/b/three": "333\n", "dirlink/three": "333\n", ".hidden": ""} {
			if got, err := fs.ReadFile(fsys, name); string(got) != want || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	})
	t.Run("WalkDir", func(t *testing.T) {
		var names []string
		must(t, fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, err error) error {
			names = append(names, name)
			return err
		}))
		if got := strings.Join(names, ","); got != ".,.hidden,a,a/b,a/b/three,a/two,dirlink,empty,link,one,with space" {
			t.Error(got)
		}
	})
	t.Run("Glob", func(t *testing.T) {
		for pattern, want := range map[string][]string{"*/t*": {"a/two", "dirlink/three"}, "[ol]*": {"link", "one"}, "none/*": nil} {
			if got, err := fs.Glob(fsys, pattern); !slices.Equal(got, want) || err != nil {
				t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
			}
		}
		if _, err := fs.Glob(fsys, "["); err == nil {
			t.Error("a bad pattern is none")
		}
	})
	t.Run("Sub", func(t *testing.T) {
		sub, err := fs.Sub(fsys, "a/b")
		must(t, err)
		if got, err := fs.ReadFile(sub, "three"); string(got) != "333\n" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		must(t, fstest.TestFS(sub, "three"))
	})
	t.Run("errors", func(t *testing.T) {
		for name, want := range map[string]error{"none": fs.ErrNotExist, "one/x": nil, "../root/one": fs.ErrInvalid, "/one": fs.ErrInvalid, "a/": fs.ErrInvalid} {
			_, openErr := fsys.Open(name)
			_, statErr := fs.Stat(fsys, name)
			_, readErr := fs.ReadFile(fsys, name)
			for what, err := range map[string]error{"open": openErr, "stat": statErr, "read": readErr} {
				var e *fs.PathError
				if !errors.As(err, &e) || e.Path != name || want != nil && !errors.Is(err, want) {
					t.Errorf("%s %s: %v, want %v", what, name, err, want)
				}
			}
		}
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := fs.ReadFile(fsys.WithContext(gone), "one")
		wantError(t, "a context that is done", err, context.Canceled)
	})
}
