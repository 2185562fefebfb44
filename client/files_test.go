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
			known := 0 // the size is told or is not
			if sum == client.CRC32C {
				known = size
			}
			info, err := files.WriteFile(ctx, "d/f", iotest.HalfReader(bytes.NewReader(data)), client.WriteOptions{
				Parents: true, Perm: 0o640, ModTime: when, Checksum: sum, Size: int64(known),
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
			_ = r.Close()
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
