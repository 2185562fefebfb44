//go:build linux

package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/guestd/guestd/client"
)

// plant makes a small tree and returns where.
func plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"hello.txt": "hello, world\n", "empty": "", "sub/a": "a", "sub/deep/b": strings.Repeat("b", 300_000), "sub/deep/c.txt": "c",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "hollow"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFS(t *testing.T) {
	c, _ := live(t)
	fsys := c.FSAs("", plant(t)).WithContext(within(t))
	if err := fstest.TestFS(fsys, "hello.txt", "empty", "sub/a", "sub/deep/b", "sub/deep/c.txt", "link", "hollow"); err != nil {
		t.Error(err)
	}
	sub := must[fs.FS](t)(fs.Sub(fsys, "sub"))
	if err := fstest.TestFS(sub, "a", "deep/b"); err != nil {
		t.Error(err)
	}
	if data, err := fs.ReadFile(c.FS(), "etc/passwd"); err != nil || len(data) == 0 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	matches, err := fs.Glob(fsys, "sub/*/*.txt")
	if err != nil || !slices.Equal(matches, []string{"sub/deep/c.txt"}) {
		t.Errorf("%q, %v", matches, err)
	}
}

func TestFSErrors(t *testing.T) {
	c, _ := live(t)
	fsys := c.FSAs("", plant(t))
	_, err := fsys.Open("nothing")
	if _, ok := errors.AsType[*fs.PathError](err); !ok || !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%#v", err)
	}
	if want := "open nothing: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := fs.ReadDir(fsys, "hello.txt"); err == nil {
		t.Error("a file is listed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fs.Stat(fsys.WithContext(ctx), "hello.txt"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWriteAndRead(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	files := c.FilesAs("", t.TempDir())
	when := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for _, size := range []int{0, 1, 1000, 256 << 10, 256<<10 + 1, 3<<20 + 5} {
		for _, sum := range []client.Checksum{client.CRC32C, client.SHA256, client.NoChecksum} {
			data := bytes.Repeat([]byte{byte(size), 1, 2}, size)[:size]
			info, err := files.WriteFile(ctx, "d/f", iotest.HalfReader(bytes.NewReader(data)), client.WriteOptions{
				Parents: true, Perm: 0o640, ModTime: when, Checksum: sum,
			})
			if err != nil || info.Size() != int64(size) || info.Mode() != 0o640 || !info.ModTime().Equal(when) {
				t.Fatalf("%v, %v", info, err)
			}
			got, err := files.ReadFile(ctx, "d/f")
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), size, err)
			}
			r := must[*client.Reader](t)(files.Open(ctx, "d/f", client.ReadOptions{Checksum: sum, Offset: int64(size / 2), Length: 1000}))
			part, err := io.ReadAll(iotest.OneByteReader(r))
			if want := data[size/2 : min(size, size/2+1000)]; err != nil || !bytes.Equal(part, want) {
				t.Errorf("%d bytes of %d, %v", len(part), len(want), err)
			}
			r.Close()
		}
	}
}

func TestWriteModes(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	files := c.FilesAs("", dir)
	write := func(data string, o client.WriteOptions) error {
		_, err := files.WriteBytes(ctx, "f", []byte(data), o)
		return err
	}
	steps := []struct {
		data string
		o    client.WriteOptions
		want string
		err  error
	}{
		{"one", client.WriteOptions{Mode: client.Exclusive}, "one", nil},
		{"two", client.WriteOptions{Mode: client.Exclusive}, "one", fs.ErrExist},
		{"two", client.WriteOptions{Mode: client.Append}, "onetwo", nil},
		{"XX", client.WriteOptions{Mode: client.Update, Offset: 2}, "onXXwo", nil},
		{"short", client.WriteOptions{Mode: client.Overwrite}, "short", nil},
		{"atomic", client.WriteOptions{}, "atomic", nil},
	}
	for _, step := range steps {
		if err := write(step.data, step.o); !errors.Is(err, step.err) || (err == nil) != (step.err == nil) {
			t.Errorf("%+v: %v", step, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != step.want {
			t.Errorf("%+v: %q, %v", step, got, err)
		}
	}
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("source is gone")
	source := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), errorReader{cause})
	if _, err := c.Files().WriteFile(ctx, path, source, client.WriteOptions{}); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if _, err := c.Files().WriteFile(ctx, path, strings.NewReader("too short"), client.WriteOptions{Size: 100}); err == nil {
		t.Error("a wrong size is taken")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		entries := must[[]os.DirEntry](t)(os.ReadDir(dir))
		if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
			t.Fatalf("%q, %v", got, err)
		}
		if len(entries) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left over: %v", entries)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestNamesThatAreNotUTF8(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	files := c.FilesAs("", t.TempDir())
	const name = "b\xffd/\xfe\xed"
	must[*client.FileInfo](t)(files.WriteBytes(ctx, name, []byte("x"), client.WriteOptions{Parents: true}))
	if err := files.Symlink(ctx, "to\xff", "li\xffnk"); err != nil {
		t.Fatal(err)
	}
	if target, err := files.Readlink(ctx, "li\xffnk"); err != nil || target != "to\xff" {
		t.Errorf("%q, %v", target, err)
	}
	if info := must[*client.FileInfo](t)(files.Lstat(ctx, "li\xffnk")); info.Target() != "to\xff" || info.Type() != fs.ModeSymlink {
		t.Errorf("%q", info.Target())
	}
	var paths []string
	for info, err := range files.Walk(ctx, ".", client.WalkOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, info.Path())
	}
	slices.Sort(paths)
	if want := []string{"b\xffd", name, "li\xffnk"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
	if _, err := files.Stat(ctx, "no\xff"); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "\xff") {
		t.Errorf("%q", err)
	}
}

func TestReadDirPages(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	const n = 2500
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, names := range []bool{false, true} {
		seen := make(map[string]bool)
		for info, err := range c.Files().ReadDir(ctx, dir, client.ReadDirOptions{NamesOnly: names}) {
			if err != nil {
				t.Fatal(err)
			}
			if seen[info.Name()] || info.IsDir() {
				t.Errorf("%v, or twice", info)
			}
			seen[info.Name()] = true
		}
		if len(seen) != n {
			t.Errorf("%d of %d", len(seen), n)
		}
	}
	// Leaving early is fine.
	for _, err := range c.Files().ReadDir(ctx, dir, client.ReadDirOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}

func TestWalkAndGlob(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	files := c.FilesAs("", plant(t))
	var walked []string
	for info, err := range files.Walk(ctx, ".", client.WalkOptions{Exclude: []string{"deep"}, MaxDepth: 5}) {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, info.Path())
	}
	slices.Sort(walked)
	if want := []string{"empty", "hello.txt", "hollow", "link", "sub", "sub/a"}; !slices.Equal(walked, want) {
		t.Errorf("%q, want %q", walked, want)
	}
	var globbed []string
	for info, err := range files.Glob(ctx, "**/{b,*.txt}") {
		if err != nil {
			t.Fatal(err)
		}
		globbed = append(globbed, info.Name())
	}
	slices.Sort(globbed)
	if want := []string{"b", "c.txt", "hello.txt"}; !slices.Equal(globbed, want) {
		t.Errorf("%q, want %q", globbed, want)
	}
	for _, err := range files.Glob(ctx, "[") {
		if !errors.Is(err, client.ErrInvalidRequest) {
			t.Errorf("%v", err)
		}
	}
}

func TestChanges(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	files := c.FilesAs("", dir)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(files.Mkdir(ctx, "d", 0o751))
	if err := files.Mkdir(ctx, "d", 0o755); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	check(files.MkdirAll(ctx, "d/e/f", 0o755))
	check(files.MkdirAll(ctx, "d/e/f", 0o755))
	must[*client.FileInfo](t)(files.WriteBytes(ctx, "d/x", []byte("content"), client.WriteOptions{}))
	check(files.Link(ctx, "d/x", "d/y"))
	when := time.Date(1999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	check(files.Chtimes(ctx, "d/x", time.Time{}, when))
	check(files.Truncate(ctx, "d/x", 3))
	check(files.Chmod(ctx, "d/x", 0o750|fs.ModeSetuid))
	info := must[*client.FileInfo](t)(files.Stat(ctx, "d/y"))
	if info.Mode() != 0o750|fs.ModeSetuid || info.Size() != 3 || info.Links() != 2 || info.Path() != filepath.Join(dir, "d/y") {
		t.Errorf("%v %v", info, info.Path())
	}
	result := must[client.CopyResult](t)(files.Copy(ctx, "d", "copy", client.CopyOptions{Recursive: true}))
	if result.Files != 1 || result.Bytes != 3 { // x and y are one
		t.Errorf("%+v", result)
	}
	check(files.Rename(ctx, "d/x", "d/z", client.RenameOptions{}))
	if err := files.Rename(ctx, "d/y", "d/z", client.RenameOptions{NoReplace: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	check(files.Symlink(ctx, "d/z", "l"))
	if real := must[string](t)(files.RealPath(ctx, "l", false)); real != must[string](t)(filepath.EvalSymlinks(dir))+"/d/z" {
		t.Errorf("%s", real)
	}
	if err := files.Remove(ctx, "d"); !errors.Is(err, client.ErrNotEmpty) || !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("%v", err)
	}
	if n := must[int64](t)(files.RemoveAll(ctx, "d")); n != 5 {
		t.Errorf("%d removed", n)
	}
	if n := must[int64](t)(files.RemoveAll(ctx, "d")); n != 0 {
		t.Errorf("%d removed", n)
	}
	temp := must[string](t)(files.MkdirTemp(ctx, dir, "a*b"))
	if st := must[*client.FileInfo](t)(files.Stat(ctx, temp)); st.Mode() != 0o700|fs.ModeDir || filepath.Dir(temp) != dir {
		t.Errorf("%s %v", temp, st)
	}
	must[string](t)(files.CreateTemp(ctx, temp, ""))
	if st := must[client.Filesystem](t)(files.StatFilesystem(ctx, ".")); st.TotalBytes == 0 || st.BlockBytes == 0 {
		t.Errorf("%+v", st)
	}
}

func TestUsersRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can act for others")
	}
	c, _ := live(t)
	ctx := within(t)
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	files := c.FilesAs("12345:23456", dir)
	if _, err := files.WriteBytes(ctx, "f", nil, client.WriteOptions{}); !errors.Is(err, fs.ErrPermission) || !errors.Is(err, syscall.EACCES) {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	info := must[*client.FileInfo](t)(files.WriteBytes(ctx, "f", nil, client.WriteOptions{}))
	if info.UID() != 12345 || info.GID() != 23456 {
		t.Errorf("%d:%d", info.UID(), info.GID())
	}
	if err := c.Files().Chown(ctx, filepath.Join(dir, "f"), "0", "0"); err != nil {
		t.Error(err)
	}
}

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
	defer r.Close()
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
	defer w.Close()
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

func TestProcFilesAndFIFOs(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	if data, err := c.Files().ReadFile(ctx, "/proc/version"); err != nil || !bytes.HasPrefix(data, []byte("Linux")) {
		t.Errorf("%q, %v", data, err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Files().ReadFile(ctx, fifo); !errors.Is(err, client.ErrWrongType) {
		t.Errorf("%v", err)
	}
}

func hashOf(t *testing.T, path string) [32]byte {
	t.Helper()
	return sha256.Sum256(must[[]byte](t)(os.ReadFile(path)))
}
