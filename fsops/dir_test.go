//go:build linux

package fsops

import (
	"context"
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

	"github.com/bmatcuk/doublestar/v4"
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

func walkPaths(t testing.TB, f *FS, root string, opts WalkOptions) (paths []string, failed []string) {
	t.Helper()
	err := f.Walk(bg(), root, opts, func(entries []WalkEntry) error {
		for _, e := range entries {
			if e.Err != nil {
				failed = append(failed, e.Path)
				continue
			}
			paths = append(paths, e.Path)
			if want := strings.Count(e.Path, "/") + 1; e.Path != "." && e.Depth != want || e.Path == "." && e.Depth != 0 {
				t.Errorf("%s at depth %d", e.Path, e.Depth)
			}
			if e.Entry.Type == 0 || (e.Entry.Info != nil) != opts.Stat {
				t.Errorf("%+v", e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths, failed
}

func TestWalk(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "r/a/x.o", "r/a/y", "r/b/c/d/e", "r/loop -> .", "r/"+rawName, "r/.git/config", "link -> r")
	for _, test := range []struct {
		root string
		opts WalkOptions
		want []string
	}{
		{"r", WalkOptions{}, []string{".", ".git", ".git/config", "a", "a/x.o", "a/y", "b", "b/c", "b/c/d", "b/c/d/e", rawName, "loop"}},
		{"r", WalkOptions{MaxDepth: 1, Stat: true}, []string{".", ".git", "a", "b", rawName, "loop"}},
		{"link", WalkOptions{Exclude: []string{"*.o", ".git", "b/**/d"}, OneFileSystem: true}, []string{".", "a", "a/y", "b", "b/c", rawName, "loop"}},
		{"r/a/y", WalkOptions{Stat: true}, []string{"."}},
	} {
		got, failed := walkPaths(t, f, test.root, test.opts)
		if !slices.Equal(got, test.want) || failed != nil {
			t.Errorf("%s %+v:\n%q, failed %q; want\n%q", test.root, test.opts, got, failed, test.want)
		}
	}
	wantErrno(t, f.Walk(bg(), "none", WalkOptions{}, nil), "none", syscall.ENOENT)
	if err := f.Walk(bg(), "r", WalkOptions{Exclude: []string{"[a"}}, nil); !errors.Is(err, ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}
	stop := errors.New("stop")
	if err := f.Walk(bg(), "r", WalkOptions{}, func([]WalkEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of fn: %v", err)
	}
	ctx, cancel := context.WithCancel(bg())
	if err := f.Walk(ctx, "r", WalkOptions{}, func([]WalkEntry) error { cancel(); return nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestWalkGoesOnBehindErrors(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "a/1", "closed/2", "z/3")
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths, failed := walkPaths(t, f, ".", WalkOptions{})
	if want := []string{".", "a", "a/1", "closed", "z", "z/3"}; !slices.Equal(paths, want) {
		t.Errorf("%q", paths)
	}
	if !slices.Equal(failed, []string{"closed"}) {
		t.Errorf("failed %q", failed)
	}
}

// A tree deeper than PATH_MAX and than the descriptors that are kept open.
func TestDeepTree(t *testing.T) {
	f, dir := memFS(t)
	const depth = 600
	name := strings.Repeat("d", 20)
	fd, err := openAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknodat(fd, "file", unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
		next, err := openAt(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		closeFD(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	closeFD(fd)
	opened := len(openFDs())
	deepest, count, fds := 0, 0, 0
	err = f.Walk(bg(), ".", WalkOptions{Stat: true}, func(entries []WalkEntry) error {
		fds = max(fds, len(openFDs()))
		for _, e := range entries {
			if e.Err != nil {
				t.Errorf("%d: %v", e.Depth, e.Err)
			}
			deepest, count = max(deepest, e.Depth), count+1
		}
		return nil
	})
	if err != nil || deepest != depth || count != 2*depth+1 {
		t.Errorf("walk: %d entries to depth %d, %v", count, deepest, err)
	}
	if fds > opened+keepOpen+8 {
		t.Errorf("%d descriptors open", fds-opened)
	}
	copied, err := f.Copy(bg(), ".", dir+"-copy", CopyOptions{Recursive: true})
	if err != nil || copied.Dirs != depth+1 || copied.Files != depth {
		t.Errorf("copy: %+v, %v", copied, err)
	}
	for _, root := range []string{dir, dir + "-copy"} {
		removed, err := f.Remove(bg(), root, RemoveOptions{Recursive: true})
		if err != nil || removed.Dirs != depth+1 || removed.Files != depth {
			t.Errorf("remove: %+v, %v", removed, err)
		}
	}
}

func TestMatcher(t *testing.T) {
	m, err := NewMatcher([]string{"*.o", "/build", "a/**/z", "node_modules/", "{x,y}.txt"})
	if err != nil {
		t.Fatal(err)
	}
	for rel, want := range map[string]bool{
		"f.o": true, "d/e/f.o": true, "build": true, "sub/build": false, "a/z": true, "a/b/c/z": true, "b/a/z": false,
		"p/node_modules": true, "d/x.txt": true, "z.txt": false, ".": false, "caf\xe9.o": true,
	} {
		if got := m.Match(rel); got != want {
			t.Errorf("%q: %v", rel, got)
		}
	}
	for _, bad := range []string{"[", "{a", "", "/", "a\\"} {
		if _, err := NewMatcher([]string{bad}); !errors.Is(err, ErrBadPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (*Matcher)(nil).Match("x") {
		t.Error("nil matches")
	}
}

func globPaths(t testing.TB, f *FS, pattern string) []string {
	t.Helper()
	var paths []string
	if err := f.Glob(bg(), pattern, func(path string) error {
		paths = append(paths, path)
		return nil
	}); err != nil {
		t.Fatalf("%q: %v", pattern, err)
	}
	slices.Sort(paths)
	return paths
}

func TestGlob(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "a/x.go", "a/y.c", "a/.hidden", "b/c/x.go", "b/c/d/x.go", "lone.go", "caf\xe9.go",
		"current -> b", "b/loop -> ..", "dangling -> none", "star*", "sp ace/[x]")
	for _, test := range []struct {
		pattern string
		want    []string
	}{
		{"*.go", []string{"caf\xe9.go", "lone.go"}},
		{"caf?.go", []string{"caf\xe9.go"}},
		{"a/*", []string{"a/.hidden", "a/x.go", "a/y.c"}},
		{"**/x.go", []string{"a/x.go", "b/c/d/x.go", "b/c/x.go"}},
		{"b/**/**/x.go", []string{"b/c/d/x.go", "b/c/x.go"}},
		{"current/*/x.go", []string{"current/c/x.go"}},
		{"current/**/x.go", []string{"current/c/d/x.go", "current/c/x.go"}},
		{"{a,b/c}/x.{go,c}", []string{"a/x.go", "b/c/x.go"}},
		{"{a,a}/x.go", []string{"a/x.go"}},
		{"[a-b]/", []string{"a", "b"}},
		{"*/", []string{"a", "b", "current", "sp ace"}},
		{"dang*", []string{"dangling"}},
		{"star\\*", []string{"star*"}},
		{"sp ace/\\[x\\]", []string{"sp ace/[x]"}},
		{"a/**", []string{"a", "a/.hidden", "a/x.go", "a/y.c"}},
		{"b/../lone.go", []string{"b/../lone.go"}},
		{"*/../lone.go", []string{"a/../lone.go", "b/../lone.go", "current/../lone.go", "sp ace/../lone.go"}},
		{"./lone.*", []string{"lone.go"}},
		{`a/\./x.go`, []string{"a/x.go"}},
		{"none/*", nil},
		{"lone.go/*", nil},
		{dir + "/l*", []string{dir + "/lone.go"}},
		{"/", []string{"/"}},
	} {
		if got := globPaths(t, f, test.pattern); !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, want %q", test.pattern, got, test.want)
		}
	}
	f.id.Home = dir
	if got := globPaths(t, f, "~/lon*"); !slices.Equal(got, []string{dir + "/lone.go"}) {
		t.Errorf("tilde: %q", got)
	}
	for _, bad := range []string{"[", "a/{b", "x\\", strings.Repeat("{a,b}", 20)} {
		err := f.Glob(bg(), bad, nil)
		var pe *fs.PathError
		if !errors.Is(err, ErrBadPattern) || !errors.As(err, &pe) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	wantErrno(t, f.Glob(bg(), "", nil), "", syscall.ENOENT)
	wantErrno(t, f.Glob(bg(), "*\x00", nil), "*\x00", syscall.EINVAL)
	stop := errors.New("stop")
	if err := f.Glob(bg(), "*", func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of fn: %v", err)
	}
}

// Directories that cannot be read can still be passed through by name.
func TestGlobThroughUnreadable(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "d/e/file")
	if err := os.Chmod(filepath.Join(dir, "d"), 0o711); err != nil {
		t.Fatal(err)
	}
	if got := globPaths(t, f, "d/e/*"); !slices.Equal(got, []string{"d/e/file"}) {
		t.Errorf("%q", got)
	}
	if got := globPaths(t, f, "d/*"); got != nil {
		t.Errorf("%q", got)
	}
}

// FuzzGlob compares with matching every path of a tree one by one.
func FuzzGlob(f *testing.F) {
	for _, seed := range []string{"*", "**", "a/**", "**/x.go", "{a,b/c}/x", "[a-c]/?", "a/*/c", "\\*", "{a,{b,c}/x.go}", "**/**", "a**", "[{]", "{,a}x", "*/", `*/\.`} {
		f.Add(seed)
	}
	view, dir := ownFS(f)
	makeTree(f, dir, "a/x.go", "a/b/c", "b/c/x", "b/c/x.go", "x", "xx", "{", "*", "a/b/x.go", "c/")
	var all []string
	if err := view.Walk(bg(), ".", WalkOptions{}, func(entries []WalkEntry) error {
		for _, e := range entries {
			all = append(all, e.Path)
		}
		return nil
	}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		// Not all over the machine.
		plain := strings.ReplaceAll(pattern, `\`, "")
		if strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "~") || strings.Contains(plain, "..") {
			return
		}
		var got []string
		err := view.Glob(bg(), pattern, func(path string) error {
			got = append(got, path)
			return nil
		})
		if err != nil {
			return
		}
		slices.Sort(got)
		if c := slices.Compact(slices.Clone(got)); len(c) != len(got) {
			t.Fatalf("%q: twice in %q", pattern, got)
		}
		// The pattern's own slashes mean something that Match does not know.
		for _, special := range []string{"//", "./", "/.", "~"} {
			if strings.Contains(plain, special) || strings.Contains(pattern, `\/`) || strings.Contains(pattern, "{") && strings.Contains(pattern, "/") {
				return
			}
		}
		if plain == "." || strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") {
			return
		}
		// Match lets "a/**" match "a", as Glob does, but not "a*/**"; and they
		// differ about stars in a row that are no element of their own.
		if strings.HasSuffix(pattern, "/**") {
			return
		}
		for element := range strings.SplitSeq(pattern, "/") {
			if strings.Contains(element, "**") && element != "**" {
				return
			}
		}
		var want []string
		for _, path := range all {
			if ok := doublestar.MatchUnvalidated(pattern, path); ok && path != "." {
				want = append(want, path)
			}
		}
		slices.Sort(want)
		got = slices.DeleteFunc(got, func(p string) bool { return p == "." })
		if !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", pattern, got, want)
		}
	})
}

func TestRemove(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "keep/precious", "file", "empty/", "tree/a/b/c", "tree/x", "tree/out -> ../keep", "link -> keep", "tree/"+rawName)
	remove := func(path string, opts RemoveOptions) (RemoveResult, error) { return f.Remove(bg(), path, opts) }
	for _, path := range []string{"file", "empty", "link"} {
		if result, err := remove(path, RemoveOptions{}); err != nil || result.Files+result.Dirs != 1 {
			t.Errorf("%s: %+v, %v", path, result, err)
		}
	}
	_, err := remove("tree", RemoveOptions{})
	wantErrno(t, err, "tree", syscall.ENOTEMPTY)
	_, err = remove("none", RemoveOptions{})
	wantErrno(t, err, "none", syscall.ENOENT)
	if _, err := remove("none", RemoveOptions{IgnoreMissing: true}); err != nil {
		t.Errorf("ignored: %v", err)
	}
	for path, errno := range map[string]syscall.Errno{
		"/": syscall.EBUSY, "//": syscall.EBUSY, ".": syscall.EINVAL, "tree/..": syscall.EINVAL, "tree/../": syscall.EINVAL, "tree/x/": syscall.ENOTDIR, "tree/out/": syscall.ENOTDIR,
	} {
		_, err := remove(path, RemoveOptions{Recursive: true})
		wantErrno(t, err, path, errno)
	}
	result, err := remove("tree/", RemoveOptions{Recursive: true})
	if err != nil || result != (RemoveResult{Files: 4, Dirs: 3}) {
		t.Errorf("tree: %+v, %v", result, err)
	}
	wantContent(t, filepath.Join(dir, "keep/precious"), "keep/precious")
}

func TestRemoveGoesOnBehindErrors(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "tree/a/1", "tree/roots/2", "tree/z/3")
	for _, d := range []string{"tree", "tree/a", "tree/z"} {
		if err := os.Chown(filepath.Join(dir, d), int(testIdentity.UID), -1); err != nil {
			t.Fatal(err)
		}
	}
	result, err := f.Remove(bg(), "tree", RemoveOptions{Recursive: true})
	wantErrno(t, err, "tree/roots/2", syscall.EACCES)
	if result != (RemoveResult{Files: 2, Dirs: 2, Failed: 1}) {
		t.Errorf("%+v", result)
	}
	if _, err := os.Stat(filepath.Join(dir, "tree/roots/2")); err != nil {
		t.Error(err)
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
