//go:build linux

package fsops

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guestd/guestd/internal/passwd"
)

// pathFS knows two users and needs no file.
func pathFS(t testing.TB, base string) *FS {
	t.Helper()
	lookup := func(spec string) (passwd.Identity, error) {
		if spec == "bob" {
			return passwd.Identity{Name: "bob", Home: "/home/bob/"}, nil
		}
		return passwd.Identity{}, passwd.ErrUnknownUser
	}
	sys, err := New(Config{LookupUser: lookup})
	if err != nil {
		t.Fatal(err)
	}
	id := passwd.Identity{Name: "ann", UID: sys.own.uid, GID: sys.own.gid, Home: "/home/ann"}
	f, err := sys.As(id, base)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestResolve(t *testing.T) {
	for _, test := range []struct{ base, path, want string }{
		{"", "x", "/home/ann/x"},
		{"", ".", "/home/ann/."},
		{"", "~", "/home/ann"},
		{"", "~/", "/home/ann/"},
		{"", "~/a/../b", "/home/ann/a/../b"},
		{"", "~bob", "/home/bob"},
		{"", "~bob/x", "/home/bob/x"},
		{"", "./~bob", "/home/ann/./~bob"},
		{"", "a~", "/home/ann/a~"},
		{"", "/etc//x/", "/etc//x/"},
		{"work", "../x", "/home/ann/work/../x"},
		{"/srv", "x", "/srv/x"},
		{"/", "x", "/x"},
		{"~bob", "x", "/home/bob/x"},
		{"", "\xff\xfe", "/home/ann/\xff\xfe"},
	} {
		got, err := pathFS(t, test.base).Resolve(test.path)
		if err != nil || got != test.want {
			t.Errorf("base %q: Resolve(%q) = %q, %v; want %q", test.base, test.path, got, err, test.want)
		}
	}
}

func TestBadPaths(t *testing.T) {
	f := pathFS(t, "/")
	for path, errno := range map[string]syscall.Errno{
		"":                                syscall.ENOENT,
		"a\x00b":                          syscall.EINVAL,
		"~carl/x":                         syscall.ENOENT,
		"~bob:wheel":                      syscall.ENOENT,
		strings.Repeat("n", 256):          syscall.ENAMETOOLONG,
		strings.Repeat("/directory", 410): syscall.ENAMETOOLONG,
		"/etc/passwd/x":                   syscall.ENOTDIR,
		"/no-such":                        syscall.ENOENT,
	} {
		_, err := f.Stat(bg(), path)
		wantErrno(t, err, path, errno)
		_, err = f.Open(bg(), path, OpenOptions{})
		wantErrno(t, err, path, errno)
	}
	_, err := f.Stat(bg(), "~carl")
	if !errors.Is(err, passwd.ErrUnknownUser) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown user: %v", err)
	}
	if _, err := pathFS(t, "").sys.As(f.id, "a\x00"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("NUL in the base: %v", err)
	}
}

func TestSymlinkLoop(t *testing.T) {
	f, _ := ownFS(t)
	for a, b := range map[string]string{"a": "b", "b": "a"} {
		if err := f.Symlink(bg(), a, b); err != nil {
			t.Fatal(err)
		}
	}
	for what, op := range map[string]func() error{
		"stat":     func() error { _, err := f.Stat(bg(), "a"); return err },
		"open":     func() error { _, err := f.Open(bg(), "a", OpenOptions{}); return err },
		"write":    func() error { _, err := f.NewWriter(bg(), "a", WriteOptions{}); return err },
		"realpath": func() error { _, err := f.Realpath(bg(), "a", RealpathMissing); return err },
		"readdir":  func() error { return f.ReadDir(bg(), "a", ReadDirOptions{}, nil) },
		"mkdirall": func() error { return f.MkdirAll(bg(), "a", 0o755) },
	} {
		wantErrno(t, op(), "a", syscall.ELOOP)
		_ = what
	}
	if _, err := f.Lstat(bg(), "a"); err != nil {
		t.Errorf("lstat: %v", err)
	}
}

func TestRealpath(t *testing.T) {
	f, dir := ownFS(t)
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "d/file"), "")
	for name, target := range map[string]string{"rel": "d/sub", "abs": dir + "/d", "up": "rel/..", "dangling": "no/such"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		path  string
		mode  RealpathMode
		want  string // below dir
		errno syscall.Errno
	}{
		{".", RealpathExisting, "", 0},
		{"./d/../d//sub/", RealpathExisting, "/d/sub", 0},
		{"rel", RealpathExisting, "/d/sub", 0},
		{"up", RealpathExisting, "/d", 0},
		{"abs/file", RealpathExisting, "/d/file", 0},
		{"rel/../file", RealpathExisting, "/d/file", 0},
		{"new", RealpathExisting, "", syscall.ENOENT},
		{"new", RealpathParent, "/new", 0},
		{"new/", RealpathParent, "/new", 0},
		{"new/x", RealpathParent, "", syscall.ENOENT},
		{"new/x/../y", RealpathMissing, "/new/y", 0},
		{"dangling", RealpathMissing, "/no/such", 0},
		{"dangling", RealpathParent, "", syscall.ENOENT},
		{"d/file/", RealpathExisting, "", syscall.ENOTDIR},
		{"d/file/x", RealpathMissing, "", syscall.ENOTDIR},
	} {
		got, err := f.Realpath(bg(), test.path, test.mode)
		if test.errno != 0 {
			wantErrno(t, err, test.path, test.errno)
		} else if err != nil || got != dir+test.want {
			t.Errorf("Realpath(%q, %d) = %q, %v; want %q", test.path, test.mode, got, err, dir+test.want)
		}
	}
	if got, err := f.Realpath(bg(), "/../..", RealpathExisting); got != "/" || err != nil {
		t.Errorf("above the root: %q, %v", got, err)
	}
}

// FuzzResolve checks what must hold for any path: an error, or an absolute path
// without NUL that keeps what the caller wrote at its end.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"", "/", "~", "~/x", "~bob/x", "~carl", "~:", "a/../b", "\x00", "~\x00", "//", "\xff"} {
		f.Add("/base", seed)
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, base, path string) {
		view := pathFS(t, "/")
		if b, err := view.sys.As(view.id, base); err == nil {
			view = b
		}
		if view.Base() == "" || view.Base()[0] != '/' {
			t.Fatalf("base %q", view.Base())
		}
		got, err := view.Resolve(path)
		if err != nil {
			var pe *fs.PathError
			if !errors.As(err, &pe) || pe.Path != path || !errors.As(err, new(syscall.Errno)) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if got == "" || got[0] != '/' || strings.Contains(got, "\x00") {
			t.Fatalf("Resolve(%q) = %q", path, got)
		}
		if path[0] != '~' && !strings.HasSuffix(got, path) {
			t.Fatalf("Resolve(%q) = %q", path, got)
		}
	})
}
