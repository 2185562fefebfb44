//go:build linux

package fsops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func watch(t testing.TB, f *FS, path string, opts WatchOptions) *Watcher {
	t.Helper()
	w, err := f.Watch(bg(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func (e Event) brief() string {
	s := e.Kind.String() + " "
	if e.From != "" {
		s += e.From + ">"
	}
	s += e.Path
	if e.IsDir {
		s += "/"
	}
	return s
}

// next collects events until the one called last has come.
func collect(t testing.TB, w *Watcher, last string) (all []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(bg(), 30*time.Second)
	defer cancel()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("%v; so far %q", err, all)
		}
		for _, e := range events {
			all = append(all, e.brief())
			if e.Err != nil {
				t.Errorf("%s: %v", e.brief(), e.Err)
			}
		}
		if slices.Contains(all, last) {
			return all
		}
	}
}

func wantEvents(t testing.TB, w *Watcher, want ...string) {
	t.Helper()
	if got := collect(t, w, want[len(want)-1]); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestWatch(t *testing.T) {
	for name, view := range map[string]func(testing.TB) (*FS, string){"own": ownFS, "user": userFS} {
		t.Run(name, func(t *testing.T) {
			f, dir := view(t)
			in := func(name string) string { return filepath.Join(dir, name) }
			makeTree(t, dir, "old/", "deep/a/b/")
			w := watch(t, f, ".", WatchOptions{Recursive: true})
			mustWrite(t, in(rawName), "")
			wantEvents(t, w, "create "+rawName)
			appendTo(t, in(rawName), "x")
			wantEvents(t, w, "modify "+rawName)
			must(t, os.Rename(in(rawName), in("deep/a/b/y")))
			wantEvents(t, w, "rename "+rawName+">deep/a/b/y")
			// What is below a renamed directory has another path from then on.
			must(t, os.Rename(in("deep/a"), in("old/c")))
			wantEvents(t, w, "rename deep/a>old/c/")
			os.Remove(in("old/c/b/y"))
			wantEvents(t, w, "remove old/c/b/y")
			must(t, os.Mkdir(in("old/c/b/new"), 0o755))
			wantEvents(t, w, "create old/c/b/new/")
			mustWrite(t, in("old/c/b/new/file"), "")
			wantEvents(t, w, "create old/c/b/new/file")
			// Out of what is watched, and back.
			outside := filepath.Join(publicDir(t), "outside")
			if err := os.Rename(in("old/c"), outside); err != nil {
				t.Skipf("SKIP: %v", err)
			}
			wantEvents(t, w, "remove old/c/")
			mustWrite(t, filepath.Join(outside, "b/unseen"), "")
			must(t, os.Rename(outside, in("back")))
			got := collect(t, w, "create back/b/new/file")
			want := []string{"create back/", "create back/b/", "create back/b/new/", "create back/b/new/file", "create back/b/unseen"}
			for i := 0; len(got) < len(want) && i < 10; i++ {
				got = append(got, collect(t, w, "create back/b/unseen")...)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("moved in: %q", got)
			}
			os.RemoveAll(in("back"))
			if got := collect(t, w, "remove back/"); len(got) != 5 {
				t.Errorf("removed: %q", got)
			}
			os.Remove(in("old"))
			wantEvents(t, w, "remove old/")
		})
	}
}

func TestWatchKinds(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "x")
	w := watch(t, f, ".", WatchOptions{Kinds: []EventKind{EventAttrib, EventCloseWrite}, Exclude: []string{"*.tmp"}})
	mustWrite(t, path+".tmp", "excluded")
	mustWrite(t, path, "x")
	wantEvents(t, w, "close-write x")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, w, "attrib x")
	_, err := f.Watch(bg(), ".", WatchOptions{Exclude: []string{"["}})
	if !errors.Is(err, ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}
	_, err = f.Watch(bg(), "none", WatchOptions{})
	wantErrno(t, err, "none", syscall.ENOENT)
}

func TestWatchFile(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "file", "link -> file")
	path := filepath.Join(dir, "file")
	w := watch(t, f, "link", WatchOptions{})
	appendTo(t, path, "x")
	wantEvents(t, w, "modify .")
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	os.Remove(path)
	wantEvents(t, w, "gone .")
	if _, err := w.Next(bg()); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// The kernel tells that a file has lost a link before it takes the name away: who
// looks in between still finds the file, without links.
func TestWatchFileOnItsWayOut(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "file")
	mustWrite(t, path, "")
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	// A name that goes on to lead to the file.
	w := watch(t, f, fmt.Sprintf("/proc/self/fd/%d", held.Fd()), WatchOptions{Kinds: []EventKind{EventAttrib}})
	must(t, os.Chmod(path, 0o600))
	wantEvents(t, w, "attrib .")
	must(t, os.Remove(path))
	wantEvents(t, w, "gone .")
}

func TestWatchGone(t *testing.T) {
	f, dir := ownFS(t)
	for name, act := range map[string]func(string) error{
		"removed": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+"2") },
	} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		w := watch(t, f, name, WatchOptions{Recursive: true})
		if err := act(path); err != nil {
			t.Fatal(err)
		}
		wantEvents(t, w, "gone .")
		if _, err := w.Next(bg()); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	f, dir := ownFS(t)
	w := watch(t, f, ".", WatchOptions{})
	got := make(chan error, 1)
	ctx, cancel := context.WithCancel(bg())
	next := func() { _, err := w.Next(ctx); got <- err }
	go next()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	// The Watcher lives on.
	mustWrite(t, filepath.Join(dir, "x"), "")
	wantEvents(t, w, "create x")
	ctx = bg()
	go next()
	must(t, w.Close())
	if err := <-got; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := w.Next(bg()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := w.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// A tree that is made while it begins to be watched: every file once.
func TestWatchNewTreeIsComplete(t *testing.T) {
	f, dir := memFS(t)
	w := watch(t, f, ".", WatchOptions{Recursive: true, Kinds: []EventKind{EventCreate}})
	const dirs, files = 40, 25
	go func() {
		for d := range dirs {
			path := filepath.Join(dir, fmt.Sprintf("d%d/e/f", d))
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Error(err)
			}
			for n := range files {
				if err := os.WriteFile(filepath.Join(path, fmt.Sprint(n)), nil, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, "end"), nil, 0o644))
	}()
	seen := map[string]int{}
	for total := 0; total < dirs*(files+3)+1; {
		ctx, cancel := context.WithTimeout(bg(), 30*time.Second)
		events, err := w.Next(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%v after %d events", err, total)
		}
		for _, e := range events {
			if seen[e.Path]++; seen[e.Path] > 1 || e.Kind != EventCreate {
				t.Errorf("%s for the %d. time", e.brief(), seen[e.Path])
			}
			total++
		}
	}
}

// A file that is made between the two steps that a new directory takes, to be
// watched and to be listed, is in the listing and has an event as well.
func TestWatchReportsListedOnce(t *testing.T) {
	f, dir := ownFS(t)
	w := watch(t, f, ".", WatchOptions{Recursive: true})
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	child, err := w.addDir(w.tree.root, "d")
	if err != nil || child == nil {
		t.Fatal(child, err)
	}
	mustWrite(t, filepath.Join(dir, "d/x"), "")
	w.listed = map[listedName]struct{}{}
	if err := w.addBelow(nil, child, true); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "end"), "")
	wantEvents(t, w, "create d/x", "create d/", "create end")
}

// A name that appears, disappears and appears again is not mistaken for what
// the listing of its new directory has reported.
func TestWatchListedNameAgain(t *testing.T) {
	f, dir := ownFS(t)
	w := watch(t, f, ".", WatchOptions{Recursive: true})
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "d/x")
	mustWrite(t, path, "")
	collect(t, w, "create d/x")
	for range 3 {
		os.Remove(path)
		wantEvents(t, w, "remove d/x")
		mustWrite(t, path, "")
		wantEvents(t, w, "create d/x")
	}
}

func TestWatchOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	var limit int
	if err == nil {
		_, err = fmt.Sscan(string(text), &limit)
	}
	if err != nil || limit > 100_000 {
		t.Skipf("SKIP: queue of %d events, %v", limit, err)
	}
	f, dir := memFS(t)
	makeTree(t, dir, "a/", "b/")
	w := watch(t, f, ".", WatchOptions{Recursive: true})
	// Different names, or the kernel merges the events.
	manyFiles(t, filepath.Join(dir, "a"), limit+100)
	// Lost: that b was renamed, and what was made.
	must(t, os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "c")))
	must(t, os.MkdirAll(filepath.Join(dir, "late/later"), 0o755))
	events := collect(t, w, "overflow ./")
	if len(events) < limit/2 {
		t.Errorf("%d events before the overflow", len(events))
	}
	mustWrite(t, filepath.Join(dir, "c/x"), "")
	wantEvents(t, w, "create c/x")
	mustWrite(t, filepath.Join(dir, "late/later/y"), "")
	wantEvents(t, w, "create late/later/y")
}

// The halves of a rename that are read apart are one rename, however late the
// reader comes for the second.
func TestWatchLateReader(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "x")
	mustWrite(t, path, "")
	w := watch(t, f, ".", WatchOptions{})
	// Room for one event: the kernel does not give parts.
	w.buf = w.buf[:2*unix.SizeofInotifyEvent]
	must(t, os.Rename(path, path+"2"))
	must(t, w.fill(bg(), time.Time{}))
	time.Sleep(2 * movePause)
	wantEvents(t, w, "rename x>x2")
}

func TestWatchCoalesces(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "x")
	mustWrite(t, path, "")
	w := watch(t, f, ".", WatchOptions{Coalesce: 200 * time.Millisecond})
	for range 50 {
		appendTo(t, path, "x")
	}
	must(t, os.Rename(path, path+"2"))
	got := collect(t, w, "rename x>x2")
	if n := strings.Count(strings.Join(got, "\n"), "modify"); n < 1 || n > 25 {
		t.Errorf("%d modify events of 50: %q", n, got)
	}
}

// watchLimitsHelper is set for the process that TestWatchLimits starts.
const watchLimitsHelper = "FSOPS_TEST_WATCH_LIMITS"

// With the kernel's limit reached there is an error that says so. It is a limit
// for each user of each user namespace, and a namespace may lower its own: so the
// test goes on in a process that has one, and takes nothing from the tests beside
// it.
func TestWatchLimits(t *testing.T) {
	if os.Getenv(watchLimitsHelper) != "" {
		testWatchLimits(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWatchLimits$", "-test.v")
	cmd.Env = append(os.Environ(), watchLimitsHelper+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skipf("SKIP: no user namespace: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "SKIP"):
		t.Skip(string(out))
	}
}

func testWatchLimits(t *testing.T) {
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0); err != nil {
		t.Skipf("SKIP: cannot lower the limit: %v", err)
	}
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "log"), "x")
	if _, err := f.Watch(bg(), ".", WatchOptions{}); !errors.Is(err, ErrWatchLimit) || !strings.Contains(err.Error(), "max_user_instances") {
		t.Errorf("%v", err)
	}
	// Following still works.
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	w := follow(r)
	w.waitFor(t, "x")
	appendTo(t, filepath.Join(dir, "log"), "y")
	w.waitFor(t, "xy")
	must(t, r.Close())
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestWatchUnreadableDirectory(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "closed/x", "open/")
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := watch(t, f, ".", WatchOptions{Recursive: true})
	events, err := w.Next(bg())
	if err != nil || len(events) != 1 || events[0].Kind != EventOverflow || events[0].Path != "closed" || !errors.Is(events[0].Err, fs.ErrPermission) {
		t.Errorf("%+v, %v", events, err)
	}
	mustWrite(t, filepath.Join(dir, "open/x"), "")
	wantEvents(t, w, "create open/x")
}

func BenchmarkWatch(b *testing.B) {
	f, dir := memFS(b)
	for i := range 100 {
		for j := range 100 {
			if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("d%d/e%d", i, j)), 0o755); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		w, err := f.Watch(bg(), ".", WatchOptions{Recursive: true})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(w.tree.byWD)), "watches")
		must(b, w.Close())
	}
}
