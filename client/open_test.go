//go:build linux

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

func TestOpenFile(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	files := c.FilesAs("", t.TempDir())
	f := must[*client.File](t)(files.Create(ctx, "f"))
	data := bytes.Repeat([]byte("0123456789"), 250_000) // more than a call carries
	if n, err := f.Write(data); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	if at, err := f.Seek(-5, io.SeekEnd); at != int64(len(data))-5 || err != nil {
		t.Error(at, err)
	}
	if rest, err := io.ReadAll(f); string(rest) != "56789" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	}
	if all, err := io.ReadAll(f); !bytes.Equal(all, data) || err != nil {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	b := make([]byte, 2<<20)
	if n, err := f.ReadAt(b, 7); n != len(b) || err != nil || !bytes.Equal(b, data[7:7+len(b)]) {
		t.Error(n, err)
	}
	if n, err := f.ReadAt(b, int64(len(data))-3); n != 3 || !errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
	if n, err := f.WriteAt([]byte("abc"), 1); n != 3 || err != nil {
		t.Error(n, err)
	}
	if err := f.Truncate(ctx, 6); err != nil {
		t.Error(err)
	}
	if err := f.Sync(ctx); err != nil {
		t.Error(err)
	}
	if info := must[*client.FileInfo](t)(f.Stat(ctx)); info.Size() != 6 {
		t.Errorf("%d", info.Size())
	}
	if got := must[[]byte](t)(files.ReadFile(ctx, "f")); string(got) != "0abc45" {
		t.Errorf("%q", got)
	}
	if err := f.Lock(ctx, client.LockOptions{}); err != nil {
		t.Error(err)
	}
	g := must[*client.File](t)(files.OpenFile(ctx, "f", client.OpenOptions{Read: true, Write: true}))
	if err := g.Lock(ctx, client.LockOptions{}); !errors.Is(err, client.ErrLocked) {
		t.Errorf("%v", err)
	}
	if err := f.Unlock(ctx, client.LockOptions{}); err != nil {
		t.Error(err)
	}
	if err := g.Lock(ctx, client.LockOptions{Wait: time.Minute}); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(b); !errors.Is(err, client.ErrStaleHandle) {
		t.Errorf("%v", err)
	}
	// A handle does not outlive its connection.
	l.cut()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Read(b); !errors.Is(err, client.ErrStaleHandle) {
		t.Errorf("%v", err)
	}
	if _, err := files.OpenFile(ctx, "f", client.OpenOptions{Write: true, Create: true, Exclusive: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
}

func TestFollow(t *testing.T) {
	c, _ := live(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := must[*client.Reader](t)(c.Files().Open(ctx, path, client.ReadOptions{Follow: true}))
	closeLater(t, r)
	b := make([]byte, 4)
	for _, word := range []string{"one\n", "two\n"} {
		if _, err := io.ReadFull(r, b); err != nil || string(b) != word {
			t.Fatalf("%q, %v", b, err)
		}
		f := must[*os.File](t)(os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0))
		if _, err := f.WriteString("two\n"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if _, err := io.ReadFull(r, b); err != nil { // the second "two"
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Read(b); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWatch(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	w := must[*client.Watch](t)(c.Files().Watch(ctx, dir, client.WatchOptions{
		Recursive: true,
		Types:     []client.WatchEventType{client.Created, client.Renamed, client.Removed},
	}))
	closeLater(t, w)
	if w.Directories() != 1 {
		t.Errorf("%d directories", w.Directories())
	}
	want := []client.WatchEvent{
		{Type: client.Created, Path: "a"},
		{Type: client.Renamed, Path: "b", OldPath: "a"},
		{Type: client.Removed, Path: "b"},
	}
	steps := []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600) },
		func() error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")) },
		func() error { return os.Remove(filepath.Join(dir, "b")) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if event, err := w.Next(); err != nil || event != want[i] {
			t.Fatalf("%+v, %v, want %+v", event, err, want[i])
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	var last client.WatchEvent
	for event, err := range w.Events() {
		if err != nil {
			t.Fatal(err)
		}
		last = event
	}
	if last.Type != client.Gone {
		t.Errorf("%+v", last)
	}
	if _, err := c.Files().Watch(ctx, dir, client.WatchOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
