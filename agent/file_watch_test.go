//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// watcher collects what a watch tells, one line for each change.
type watcher struct {
	stream grpc.ServerStreamingClient[guestdv1.WatchResponse]
	seen   []string
}

// watch begins a watch, which stands when it returns.
func (c *fileClient) watch(t *testing.T, ctx context.Context, req *guestdv1.WatchRequest) (*watcher, *guestdv1.WatchReady) {
	t.Helper()
	stream, err := c.Watch(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || resp.GetReady() == nil {
		t.Fatalf("first: %v, %v", resp, err)
	}
	return &watcher{stream: stream}, resp.GetReady()
}

// until receives until want has been seen, once more than before.
func (w *watcher) until(t *testing.T, want string) {
	t.Helper()
	for {
		for i, line := range w.seen {
			if line == want {
				w.seen = w.seen[i+1:]
				return
			}
		}
		resp, err := w.stream.Recv()
		if err != nil {
			t.Fatalf("waiting for %q, have %q: %v", want, w.seen, err)
		}
		w.take(resp)
	}
}

func (w *watcher) take(resp *guestdv1.WatchResponse) {
	switch event := resp.GetEvent().(type) {
	case *guestdv1.WatchResponse_Changes:
		for _, change := range event.Changes.GetChanges() {
			kind := strings.TrimPrefix(change.GetType().String(), "WATCH_EVENT_TYPE_")
			line := kind + " " + change.GetPath()
			if change.GetOldPath() != "" {
				line += " from " + change.GetOldPath()
			}
			if change.GetDirectory() {
				line += "/"
			}
			w.seen = append(w.seen, line)
		}
	case *guestdv1.WatchResponse_Overflow:
		w.seen = append(w.seen, "OVERFLOW")
	case *guestdv1.WatchResponse_Gone:
		w.seen = append(w.seen, "GONE")
	}
}

// TestFileWatch sees every kind of change in a tree.
func TestFileWatch(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		dir := filepath.Join(c.dir, fmt.Sprint("tree", uid))
		at := func(name string) string { return filepath.Join(dir, name) }
		if err := os.MkdirAll(at("sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		w, ready := c.watch(t, testContext(t), &guestdv1.WatchRequest{Context: as, Path: dir, Recursive: true, Exclude: []string{"*.tmp"}})
		if ready.GetDirectories() != 2 {
			t.Errorf("%d directories are watched", ready.GetDirectories())
		}
		must(t, os.WriteFile(at("a.tmp"), nil, 0o644))
		must(t, os.WriteFile(at("sub/file"), []byte("x"), 0o644))
		w.until(t, "CREATED sub/file")
		w.until(t, "CLOSED sub/file")
		must(t, os.Chmod(at("sub/file"), 0o600))
		w.until(t, "ATTRIBUTES sub/file")
		must(t, os.Rename(at("sub/file"), at("odd\xff")))
		w.until(t, `RENAMED odd\xFF from sub/file`)
		must(t, os.MkdirAll(at("new/deep"), 0o755))
		w.until(t, "CREATED new/deep/")
		must(t, os.WriteFile(at("new/deep/late"), []byte("x"), 0o644))
		w.until(t, "CREATED new/deep/late")
		must(t, os.Remove(at("odd\xff")))
		w.until(t, `REMOVED odd\xFF`)
		for _, line := range w.seen {
			if strings.Contains(line, ".tmp") {
				t.Errorf("excluded: %s", line)
			}
		}
		must(t, os.RemoveAll(dir))
		w.until(t, "GONE")
		if _, err := w.stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestFileWatchTypes asks for some changes of one file only.
func TestFileWatchTypes(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	must(t, os.WriteFile(path, nil, 0o644))
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	w, _ := c.watch(t, ctx, &guestdv1.WatchRequest{Path: path, Types: []guestdv1.WatchEventType{
		guestdv1.WatchEventType_WATCH_EVENT_TYPE_ATTRIBUTES,
	}})
	appendTo(t, path, "x")
	must(t, os.Chmod(path, 0o600))
	w.until(t, "ATTRIBUTES .")
	if len(w.seen) != 0 {
		t.Errorf("also seen: %q", w.seen)
	}
	cancel()
	if _, err := w.stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	stream, err := c.Watch(testContext(t), &guestdv1.WatchRequest{Path: path, Types: []guestdv1.WatchEventType{99}})
	if err == nil {
		_, err = stream.Recv()
	}
	wantFailure(t, err, codes.InvalidArgument, invalid)
	stream, err = c.Watch(testContext(t), &guestdv1.WatchRequest{Path: path + "no"})
	if err == nil {
		_, err = stream.Recv()
	}
	wantFailure(t, err, codes.NotFound, notFound, "path", path+"no", "errno", "ENOENT")
}

// TestFileWatchOverflow makes more changes than the kernel queues while nobody
// reads, and is told so.
func TestFileWatchOverflow(t *testing.T) {
	c := serveFiles(t)
	limit := 0
	if raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events"); err == nil {
		limit, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	if limit == 0 || limit > 1<<20 {
		t.Skipf("SKIP: the kernel queues %d events", limit)
	}
	dir := memoryDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience) // for so many changes
	defer cancel()
	w, _ := c.watch(t, ctx, &guestdv1.WatchRequest{Path: dir})
	// The stream's windows hold some changes, the queue limit of them. Nobody
	// receives until there was one more than both.
	name := filepath.Join(dir, strings.Repeat("n", 200))
	for i := range 2*limit + 200_000 {
		file := fmt.Sprint(name, i%1000)
		if err := os.Symlink("x", file); err != nil {
			must(t, os.Remove(file))
		}
	}
	w.until(t, "OVERFLOW")
	w.seen = nil
	must(t, os.WriteFile(filepath.Join(dir, "after"), nil, 0o644))
	w.until(t, "CREATED after")
}

// must ends the test at an error of its own preparations.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
