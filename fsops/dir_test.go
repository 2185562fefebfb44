//go:build linux

package fsops

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// makeTree makes files, directories (a slash at the end) and symbolic links
// ("name -> target").
func makeTree(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		name, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// manyFiles makes n empty files; hard links to one, which is quicker.
func manyFiles(t testing.TB, dir string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	for i := range n {
		if err := unix.Mknodat(fd, fmt.Sprintf("file-%07d", i), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadDir(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "b", "a/", "c -> b", rawName)
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, stat := range []bool{false, true} {
		var names []string
		err := f.ReadDir(bg(), ".", ReadDirOptions{Stat: stat, Sorted: true}, func(entries []DirEntry) error {
			for _, e := range entries {
				names = append(names, fmt.Sprintf("%s:%o", e.Name, e.Type))
				if (e.Info != nil) != stat || stat && (e.Info.Name != e.Name || e.Info.Ino != e.Ino) || e.Err != nil {
					t.Errorf("%+v", e)
				}
				if stat && e.Name == "c" && e.Info.LinkTarget != "b" {
					t.Errorf("%+v", e.Info)
				}
			}
			return nil
		})
		want := []string{"a:40000", "b:100000", "c:120000", rawName + ":100000", "p:10000"}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("stat %v: %q, %v; want %q", stat, names, err, want)
		}
	}
	stop := errors.New("stop")
	if err := f.ReadDir(bg(), ".", ReadDirOptions{}, func([]DirEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of fn: %v", err)
	}
	wantErrno(t, f.ReadDir(bg(), "b", ReadDirOptions{}, nil), "b", syscall.ENOTDIR)
	wantErrno(t, f.ReadDir(bg(), "p", ReadDirOptions{}, nil), "p", syscall.ENOTDIR)
	count := 0
	if err := f.ReadDir(bg(), "a", ReadDirOptions{}, func([]DirEntry) error { count++; return nil }); err != nil || count != 0 {
		t.Errorf("empty directory: %d calls, %v", count, err)
	}
}

func TestReadDirWithoutSearchPermission(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "d/x")
	if err := os.Chmod(filepath.Join(dir, "d"), 0o754); err != nil {
		t.Fatal(err)
	}
	err := f.ReadDir(bg(), "d", ReadDirOptions{Stat: true}, func(entries []DirEntry) error {
		if len(entries) != 1 || entries[0].Name != "x" || entries[0].Info != nil || !errors.Is(entries[0].Err, fs.ErrPermission) {
			t.Errorf("%+v", entries)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHundredThousandEntries(t *testing.T) {
	f, dir := memFS(t)
	const n = 100_000
	manyFiles(t, dir, n)
	collect := func(opts ReadDirOptions) []string {
		var names []string
		if err := f.ReadDir(bg(), ".", opts, func(entries []DirEntry) error {
			for _, e := range entries {
				names = append(names, e.Name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return names
	}
	complete := func(how string, names []string) {
		t.Helper()
		slices.Sort(names)
		if names = slices.Compact(names); len(names) != n {
			t.Errorf("%s: %d names", how, len(names))
		}
	}
	complete("streamed", collect(ReadDirOptions{}))
	sorted := collect(ReadDirOptions{Sorted: true})
	if !slices.IsSorted(sorted) {
		t.Error("not sorted")
	}
	complete("sorted", sorted)
	if got := collect(ReadDirOptions{Sorted: true, Limit: 3}); !slices.Equal(got, []string{"file-0000000", "file-0000001", "file-0000002"}) {
		t.Errorf("limited: %q", got)
	}

	// Page by page, each with a directory of its own, as a stateless client does.
	var names []string
	for cookie := int64(0); ; {
		page := 0
		err := f.ReadDir(bg(), ".", ReadDirOptions{Cookie: cookie, Limit: 7777, Stat: true}, func(entries []DirEntry) error {
			for _, e := range entries {
				names = append(names, e.Name)
				cookie, page = e.Cookie, page+1
				if e.Info.Name != e.Name {
					t.Errorf("%q has the info of %q", e.Name, e.Info.Name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if page == 0 {
			break
		}
		if page > 7777 {
			t.Fatalf("a page of %d", page)
		}
	}
	complete("paged", names)

	f.sys.cfg.MaxSorted = n - 1
	err := f.ReadDir(bg(), ".", ReadDirOptions{Sorted: true}, func([]DirEntry) error { return nil })
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("more than may be sorted: %v", err)
	}
	if result, err := f.Remove(bg(), dir, RemoveOptions{Recursive: true}); err != nil || result.Files != n || result.Dirs != 1 {
		t.Errorf("removed %+v, %v", result, err)
	}
}

func TestReadDirMemory(t *testing.T) {
	f, dir := memFS(t)
	manyFiles(t, dir, 50_000)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak, count := uint64(0), 0
	err := f.ReadDir(bg(), ".", ReadDirOptions{Stat: true}, func(entries []DirEntry) error {
		if len(entries) > dirBatch {
			t.Errorf("a batch of %d", len(entries))
		}
		if count += len(entries); count%20 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
		return nil
	})
	runtime.ReadMemStats(&now)
	if err != nil || count != 50_000 {
		t.Fatalf("%d, %v", count, err)
	}
	if peak > before.HeapAlloc+4<<20 {
		t.Errorf("heap grew from %d to %d", before.HeapAlloc, peak)
	}
}

func TestDir(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "a", "b", "c")
	d, err := f.OpenDir(bg(), ".")
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Next(bg(), 1, true)
	if err != nil || len(first) != 1 || first[0].Info == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	rest, err := d.Next(bg(), 100_000, false)
	if err != nil || len(rest) != 2 {
		t.Fatalf("%+v, %v", rest, err)
	}
	for range 2 {
		if _, err := d.Next(bg(), 1, false); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
	if err := d.SeekCookie(first[0].Cookie); err != nil {
		t.Fatal(err)
	}
	if again, err := d.Next(bg(), 10, false); err != nil || len(again) != 2 || again[0].Name != rest[0].Name {
		t.Errorf("after seeking: %+v, %v", again, err)
	}
	if info, err := d.Stat(bg()); err != nil || !info.IsDir() {
		t.Errorf("%+v, %v", info, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, err1 := d.Next(bg(), 1, false)
	_, err2 := d.Stat(bg())
	for _, err := range []error{err1, err2, d.SeekCookie(0), d.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestDirRemovedWhileOpen(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "d/")
	d, err := f.OpenDir(bg(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if err := os.Remove(filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(bg(), 1, false); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

func BenchmarkReadDir(b *testing.B) {
	f, dir := memFS(b)
	manyFiles(b, dir, 100_000)
	for b.Loop() {
		if err := f.ReadDir(bg(), ".", ReadDirOptions{}, func([]DirEntry) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
