package conformance

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// watch is about being told of changes.
func (s *suite) watch(t *testing.T) {
	t.Run("directory", s.watchDirectory)
	t.Run("tree", s.watchTree)
	t.Run("later directories", s.watchLater)
	t.Run("file", s.watchFile)
	t.Run("filters", s.watchFilters)
	t.Run("gone", s.watchGone)
	t.Run("overflow", s.watchOverflow)
	t.Run("ends", s.watchEnds)
}

func (s *suite) startWatch(t *testing.T, path string, o client.WatchOptions) *client.Watch {
	t.Helper()
	w, err := s.client.Files().Watch(s.context(t), path, o)
	must(t, err)
	t.Cleanup(func() { closing(t, w) })
	return w
}

// told waits for an event, and fails if one of those before it is forbidden.
func told(t *testing.T, w *client.Watch, want client.WatchEvent, forbidden ...client.WatchEventType) {
	t.Helper()
	var before []client.WatchEvent
	for {
		event, err := w.Next()
		if err != nil {
			t.Fatalf("instead of %+v: %v, after %+v", want, err, before)
		}
		if event == want {
			return
		}
		for _, kind := range append(forbidden, client.Overflow, client.Gone) {
			if event.Type == kind {
				t.Fatalf("%v %+v instead of %v %+v", event.Type, event, want.Type, want)
			}
		}
		before = append(before, event)
	}
}

func (s *suite) watchDirectory(t *testing.T) {
	dir := s.path(t, "")
	s.sh(t, "mkdir %s/sub", dir)
	w := s.startWatch(t, dir, client.WatchOptions{})
	if w.Directories() != 1 {
		t.Errorf("%d directories are watched", w.Directories())
	}
	s.sh(t, "cd %s; echo x >sub/unseen; echo x >a; echo y >>a; chmod 600 a; mv a b; mv b sub/b; mv sub/b c; rm c; rmdir sub 2>/dev/null; mkdir d", dir)
	for _, want := range []client.WatchEvent{
		{Type: client.Created, Path: "a"},
		{Type: client.Modified, Path: "a"},
		{Type: client.Closed, Path: "a"},
		{Type: client.Attributes, Path: "a"},
		{Type: client.Renamed, Path: "b", OldPath: "a"},
		{Type: client.Removed, Path: "b"},
		{Type: client.Created, Path: "c"},
		{Type: client.Removed, Path: "c"},
		{Type: client.Created, Path: "d", IsDir: true},
	} {
		told(t, w, want)
	}
}

func (s *suite) watchTree(t *testing.T) {
	dir := s.path(t, "")
	s.sh(t, "mkdir -p %s/a/b %s/c", dir, dir)
	w := s.startWatch(t, dir, client.WatchOptions{Recursive: true})
	if w.Directories() != 4 {
		t.Errorf("%d directories are watched", w.Directories())
	}
	s.sh(t, "cd %s; echo x >a/b/file; mv a/b/file c/file; mv a z; echo y >z/b/other; rm -r z; printf x >\"c/$(printf 'caf\\351')\"", dir)
	for _, want := range []client.WatchEvent{
		{Type: client.Created, Path: "a/b/file"},
		{Type: client.Modified, Path: "a/b/file"},
		{Type: client.Renamed, Path: "c/file", OldPath: "a/b/file"},
		{Type: client.Renamed, Path: "z", OldPath: "a", IsDir: true},
		{Type: client.Created, Path: "z/b/other"}, // by its directory's new name
		{Type: client.Removed, Path: "z/b/other"},
		{Type: client.Removed, Path: "z", IsDir: true},
		{Type: client.Created, Path: "c/caf\xe9"},
	} {
		told(t, w, want)
	}
}

// watchLater: nothing is missed in directories that come while it is watched,
// however quickly they are filled, or full already.
func (s *suite) watchLater(t *testing.T) {
	dir := s.memory(t, "")
	s.sh(t, "cd %s; mkdir -p watched stage/in/e/f; : >stage/in/e/f/x", dir)
	w := s.startWatch(t, dir+"/watched", client.WatchOptions{Recursive: true, Types: []client.WatchEventType{client.Created}})
	n := s.scale(200, 40)
	s.sh(t, "cd %s/watched; mv ../stage/in .; i=1; while [ $i -lt %d ]; do mkdir -p $i/e/f; : >$i/e/f/x; i=$((i+1)); done; mv in 0; : >0/e/f/later", dir, n)
	seen := map[string]int{}
	for seen["0/e/f/later"] == 0 {
		event, err := w.Next()
		must(t, err)
		if event.Type != client.Created {
			t.Fatalf("%v %+v", event.Type, event)
		}
		seen[event.Path]++
	}
	for i := range n {
		first := strconv.Itoa(i)
		if i == 0 {
			first = "in" // as it was called then
		}
		for _, p := range []string{"", "/e", "/e/f", "/e/f/x"} {
			if p = first + p; seen[p] != 1 {
				t.Errorf("%s came %d times", p, seen[p])
			}
		}
	}
}

func (s *suite) watchFile(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "1")
	w := s.startWatch(t, file, client.WatchOptions{})
	s.sh(t, "echo other >%s-other; echo 2 >>%s", file, file)
	told(t, w, client.WatchEvent{Type: client.Modified, Path: "."}, client.Created)
	s.sh(t, "rm %s", file)
	s.toldGone(t, w)
}

// toldGone reads to the end of a watch, which is Gone and nothing after it.
func (s *suite) toldGone(t *testing.T, w *client.Watch) {
	t.Helper()
	for {
		event, err := w.Next()
		must(t, err)
		if event.Type == client.Gone {
			break
		}
	}
	if event, err := w.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %+v, %v", event, err)
	}
}

func (s *suite) watchFilters(t *testing.T) {
	dir := s.path(t, "")
	s.sh(t, "mkdir %s/skip", dir)
	w := s.startWatch(t, dir, client.WatchOptions{Recursive: true, Exclude: []string{"*.tmp", "skip"}, Types: []client.WatchEventType{client.Created, client.Removed}})
	s.sh(t, "cd %s; echo x >skip/x; echo x >a.tmp; echo x >a; rm a.tmp skip/x; rm a", dir)
	for _, want := range []client.WatchEvent{{Type: client.Created, Path: "a"}, {Type: client.Removed, Path: "a"}} {
		if event, err := w.Next(); err != nil || event != want {
			t.Errorf("%+v, %v; want %+v", event, err, want)
		}
	}
	_, err := s.client.Files().Watch(s.context(t), dir, client.WatchOptions{Exclude: []string{"["}})
	wantError(t, "bad pattern", err, client.ErrInvalidRequest)
	_, err = s.client.Files().Watch(s.context(t), dir+"/none", client.WatchOptions{})
	wantError(t, "nothing", err, fs.ErrNotExist)
}

func (s *suite) watchGone(t *testing.T) {
	dir := s.path(t, "dir")
	for _, how := range []string{"rm -r", "f() { mv $1 $1-moved; }; f"} {
		s.sh(t, "mkdir -p %s/sub", dir)
		w := s.startWatch(t, dir, client.WatchOptions{Recursive: true})
		s.sh(t, "%s %s", how, dir)
		s.toldGone(t, w)
	}
}

// watchOverflow: who does not listen is told that something was missed, and of
// everything after that.
func (s *suite) watchOverflow(t *testing.T) {
	limit, err := strconv.Atoi(strings.TrimSpace(s.get(t, "/proc/sys/fs/inotify/max_queued_events")))
	must(t, err)
	if limit > 100_000 {
		t.Skipf("the guest's kernel queues %d events", limit)
	}
	dir := s.memory(t, "")
	w := s.startWatch(t, dir, client.WatchOptions{})
	// Of names of this length the connection holds little more than a thousand.
	// Then the kernel's queue fills, in which only the same twice running is one.
	name := strings.Repeat("n", 200)
	s.sh(t, "cd %s; seq 1 1500 | sed s/^/%s/ | xargs touch; seq 1 %d | sed 's/.*/a b/' | xargs touch", dir, name, limit/2+5000)
	for {
		event, err := w.Next()
		must(t, err)
		if event.Type == client.Overflow {
			break
		}
	}
	s.sh(t, "cd %s; : >after", dir)
	told(t, w, client.WatchEvent{Type: client.Created, Path: "after"})
}

func (s *suite) watchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(s.context(t))
	w, err := s.client.Files().Watch(ctx, s.path(t, ""), client.WatchOptions{})
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := w.Next()
		ended <- err
	}()
	cancel()
	wantError(t, "cancelled", <-ended, context.Canceled)
	own := &line{dial: s.target.Dial}
	c := s.connect(t, own.connect)
	defer c.Close()
	w, err = c.Files().Watch(s.context(t), s.path(t, ""), client.WatchOptions{})
	must(t, err)
	defer closing(t, w)
	own.cut()
	_, err = w.Next()
	wantError(t, "cut", err, client.ErrUnavailable)
}
