//go:build linux

package fsops

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// follower reads a followed file in the background.
type follower struct {
	mu     sync.Mutex
	text   strings.Builder
	events []error
	done   chan error
}

func follow(r *Reader) *follower {
	w := &follower{done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := r.Read(buf)
			w.mu.Lock()
			w.text.Write(buf[:n])
			if errors.Is(err, ErrTruncated) || errors.Is(err, ErrReplaced) {
				w.events = append(w.events, err)
				w.text.WriteString("|")
				err = nil
			}
			w.mu.Unlock()
			if err != nil {
				w.done <- err
				return
			}
		}
	}()
	return w
}

func (w *follower) waitFor(t *testing.T, want string) {
	t.Helper()
	var got string
	defer func() {
		if got != want {
			t.Logf("have %q, want %q", got, want)
		}
	}()
	eventually(t, "text of the followed file", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		got = w.text.String()
		return got == want
	})
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "log")
	mustWrite(t, path, "0123")
	ctx, cancel := context.WithCancel(bg())
	r, err := f.OpenRead(ctx, "log", ReadOptions{Offset: -2, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w := follow(r)
	w.waitFor(t, "23")
	appendTo(t, path, "45")
	w.waitFor(t, "2345")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	w.waitFor(t, "2345|")
	appendTo(t, path, "ab")
	w.waitFor(t, "2345|ab")
	// Rotation: what is appended to the old file before the new one is there
	// still comes.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path+".1", "c")
	w.waitFor(t, "2345|abc")
	mustWrite(t, path, "new")
	w.waitFor(t, "2345|abc|new")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, path, "newer")
	w.waitFor(t, "2345|abc|new|newer")
	cancel()
	if err := <-w.done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := []error{ErrTruncated, ErrReplaced, ErrReplaced}; !slices.Equal(w.events, want) {
		t.Errorf("events %v", w.events)
	}
}

func TestFollowEnds(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "log"), "x")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	w := follow(r)
	w.waitFor(t, "x")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	// A range ends although the file is followed.
	r, err = f.OpenRead(bg(), "log", ReadOptions{Follow: true, Length: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w = follow(r)
	appendTo(t, filepath.Join(dir, "log"), "yz")
	w.waitFor(t, "xy")
	if err := <-w.done; !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// Without an inotify instance a followed file is polled.
func TestFollowByPolling(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "log"), "x")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	r.watch = &tailWatch{polls: true}
	w := follow(r)
	w.waitFor(t, "x")
	appendTo(t, filepath.Join(dir, "log"), "y")
	w.waitFor(t, "xy")
	must(t, r.Close())
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestFollowAsUser(t *testing.T) {
	f, dir := userFS(t)
	path := filepath.Join(dir, "log")
	mustWrite(t, path, "")
	r, err := f.OpenRead(bg(), "log", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w := follow(r)
	appendTo(t, path, "x")
	w.waitFor(t, "x")
	must(t, r.Close())
	if err := <-w.done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	wantAllThreadsOwn(t)
}
