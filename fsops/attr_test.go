//go:build linux

package fsops

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A name that is not UTF-8 must come back as it went in, everywhere.
const rawName = "caf\xe9 \xff\xfe\n\x01"

func TestStat(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, rawName)
	mustWrite(t, path, "hello")
	when := time.Unix(1234567890, 987654321)
	if err := f.Chtimes(bg(), rawName, &when, &when, false); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(bg(), rawName, 0o6751); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat(bg(), rawName)
	if err != nil {
		t.Fatal(err)
	}
	st := statOf(t, path)
	if info.Name != rawName || info.Size != 5 || info.Perm() != 0o6751 || !info.IsRegular() ||
		info.Ino != st.Ino || info.Dev != st.Dev || info.Nlink != 1 || info.UID != st.Uid || info.Mode != st.Mode {
		t.Errorf("%+v", info)
	}
	if !info.Mtime.Equal(when) || !info.Atime.Equal(when) {
		t.Errorf("times %v %v, want %v", info.Atime, info.Mtime, when)
	}
	if want := fs.FileMode(0o751) | fs.ModeSetuid | fs.ModeSetgid; info.FileMode() != want {
		t.Errorf("mode %v, want %v", info.FileMode(), want)
	}
	std, err := os.Lstat(path)
	if err != nil || std.Mode() != info.Info().Mode() || std.Name() != info.Info().Name() || !std.ModTime().Equal(info.Info().ModTime()) {
		t.Errorf("Info() = %v, os.Lstat %v, %v", info.Info(), std, err)
	}
	if err := f.Symlink(bg(), "target \xff", "link"); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Lstat(bg(), "link"); err != nil || info.LinkTarget != "target \xff" || !info.IsSymlink() {
		t.Errorf("Lstat: %+v, %v", info, err)
	}
	if target, err := f.Readlink(bg(), "link"); err != nil || target != "target \xff" {
		t.Errorf("Readlink: %q, %v", target, err)
	}
	if _, err := f.Readlink(bg(), rawName); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Readlink of a file: %v", err)
	}
	if info, err := f.Stat(bg(), "/"); err != nil || info.Name != "/" || !info.IsDir() {
		t.Errorf("root: %+v, %v", info, err)
	}
	for path, mode := range map[string]fs.FileMode{"/dev/null": fs.ModeDevice | fs.ModeCharDevice} {
		if info, err := f.Stat(bg(), path); err != nil || info.FileMode().Type() != mode || !info.IsSpecial() || info.Rdev == 0 {
			t.Errorf("%s: %+v, %v", path, info, err)
		}
	}
}

func TestChtimesOmitsAndTouches(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "")
	past, before1678 := time.Unix(1, 5), time.Date(1, 1, 1, 0, 0, 0, 7, time.UTC)
	if err := f.Chtimes(bg(), "x", &past, &past, false); err != nil {
		t.Fatal(err)
	}
	if err := f.Chtimes(bg(), "x", nil, &time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat(bg(), "x")
	if err != nil || !info.Atime.Equal(past) || time.Since(info.Mtime).Abs() > time.Hour {
		t.Errorf("%+v, %v", info, err)
	}
	if err := f.Chtimes(bg(), "x", nil, &before1678, false); err != nil {
		t.Errorf("a time before 1678: %v", err)
	}
	if err := f.Symlink(bg(), "x", "link"); err != nil {
		t.Fatal(err)
	}
	if err := f.Chtimes(bg(), "link", nil, &past, true); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Lstat(bg(), "link"); err != nil || !info.Mtime.Equal(past) {
		t.Errorf("link: %+v, %v", info, err)
	}
}

func TestSetAttrOrder(t *testing.T) {
	needRoot(t)
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "hello")
	when := time.Unix(77, 99)
	err := f.SetAttr(bg(), "x", Attrs{
		Mode: ptr(uint32(0o4755)), UID: ptr(uint32(61000)), GID: ptr(uint32(61001)), Size: ptr(int64(2)), Mtime: &when,
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat(bg(), "x")
	if err != nil || info.Perm() != 0o4755 || info.UID != 61000 || info.GID != 61001 || info.Size != 2 || !info.Mtime.Equal(when) {
		t.Errorf("%+v, %v", info, err)
	}
	if err := f.Symlink(bg(), "x", "link"); err != nil {
		t.Fatal(err)
	}
	if err := f.Lchown(bg(), "link", ptr(uint32(5)), nil); err != nil {
		t.Fatal(err)
	}
	if st := statOf(t, filepath.Join(dir, "link")); st.Uid != 5 {
		t.Errorf("link's owner %d", st.Uid)
	}
	if st := statOf(t, filepath.Join(dir, "x")); st.Uid != 61000 {
		t.Errorf("the file's owner changed to %d", st.Uid)
	}
	if err := f.SetAttr(bg(), "link", Attrs{Mode: ptr(uint32(0o600))}, true); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("mode of a link: %v", err)
	}
	if err := f.SetAttr(bg(), "link", Attrs{Size: ptr(int64(0))}, true); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("size of a link: %v", err)
	}
	if err := f.SetAttr(bg(), "x", Attrs{Mode: ptr(uint32(0o600))}, true); err != nil {
		t.Errorf("mode of a file, not following: %v", err)
	}
	if err := f.Truncate(bg(), "x", 100); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(bg(), "x"); err != nil || info.Size != 100 || info.Perm() != 0o600 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestXattr(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "")
	if err := f.SetXattr(bg(), "x", "user.a", []byte("1\x00\xff"), XattrCreate, false); errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("SKIP: no user attributes on this file system")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := f.SetXattr(bg(), "x", "user.a", nil, XattrCreate, false); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("create again: %v", err)
	}
	if err := f.SetXattr(bg(), "x", "user.b", nil, XattrReplace, false); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("replace nothing: %v", err)
	}
	if err := f.SetXattr(bg(), "x", "user.b", nil, XattrEither, true); err != nil {
		t.Fatal(err)
	}
	names, err := f.ListXattr(bg(), "x", false)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"user.a", "user.b"}) {
		t.Errorf("names %q, %v", names, err)
	}
	if value, err := f.GetXattr(bg(), "x", "user.a", true); err != nil || string(value) != "1\x00\xff" {
		t.Errorf("value %q, %v", value, err)
	}
	if value, err := f.GetXattr(bg(), "x", "user.b", false); err != nil || len(value) != 0 {
		t.Errorf("empty value %q, %v", value, err)
	}
	if err := f.RemoveXattr(bg(), "x", "user.a", false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.GetXattr(bg(), "x", "user.a", false); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("removed: %v", err)
	}
}

func TestAccess(t *testing.T) {
	f, dir := userFS(t)
	mustWrite(t, filepath.Join(dir, "roots"), "")
	if err := f.Access(bg(), "roots", AccessRead|AccessExists); err != nil {
		t.Errorf("read: %v", err)
	}
	for _, mode := range []AccessMode{AccessWrite, AccessExecute, AccessRead | AccessWrite} {
		if err := f.Access(bg(), "roots", mode); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("mode %d: %v", mode, err)
		}
	}
	if err := f.Access(bg(), "none", AccessExists); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestStatfs(t *testing.T) {
	f, dir := ownFS(t)
	info, err := f.Statfs(bg(), ".")
	var st unix.Statfs_t
	if err2 := unix.Statfs(dir, &st); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if info.Size != st.Blocks*uint64(st.Frsize) || info.MaxNameSize != st.Namelen || info.Type != st.Type || info.ReadOnly {
		t.Errorf("%+v, want %+v", info, st)
	}
	if info, err := f.Statfs(bg(), "/proc"); err != nil || info.Type != unix.PROC_SUPER_MAGIC {
		t.Errorf("/proc: %+v, %v", info, err)
	}
}

func TestNames(t *testing.T) {
	var names Names
	if names.User(0) != "root" || names.Group(0) != "root" || names.User(0) != "root" {
		t.Skip("SKIP: no root in /etc/passwd")
	}
	if got := names.User(4_000_000_000); got != "" {
		t.Errorf("unknown user is called %q", got)
	}
}

func TestLinksAndRenames(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "a"), "a")
	mustWrite(t, filepath.Join(dir, "b"), "b")
	var le *os.LinkError
	if err := f.Rename(bg(), "a", "b", RenameNoReplace); !errors.Is(err, fs.ErrExist) || !errors.As(err, &le) || le.Old != "a" || le.New != "b" {
		t.Errorf("noreplace: %v", err)
	}
	if err := f.Rename(bg(), "a", "b", RenameExchange); err != nil {
		t.Fatal(err)
	}
	wantContent(t, filepath.Join(dir, "a"), "b")
	if err := f.Rename(bg(), "a", rawName, RenameReplace); err != nil {
		t.Fatal(err)
	}
	wantContent(t, filepath.Join(dir, rawName), "b")
	if err := f.Link(bg(), rawName, "second"); err != nil {
		t.Fatal(err)
	}
	if st := statOf(t, filepath.Join(dir, "second")); st.Nlink != 2 {
		t.Errorf("links: %d", st.Nlink)
	}
	if err := f.Rename(bg(), "none", "x", RenameReplace); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename nothing: %v", err)
	}
	if err := f.Rename(bg(), "", "x", RenameReplace); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
}

func TestMkdir(t *testing.T) {
	f, dir := ownFS(t)
	// The test's umask is not known; modes must not depend on it.
	if err := f.Mkdir(bg(), "a", 0o1777); err != nil {
		t.Fatal(err)
	}
	if err := f.MkdirAll(bg(), "a/b//c/../d/", 0o775); err != nil {
		t.Fatal(err)
	}
	if err := f.MkdirAll(bg(), "a/b/d/", 0o700); err != nil {
		t.Errorf("again: %v", err)
	}
	for name, want := range map[string]uint32{"a": 0o1777, "a/b": 0o775, "a/b/c": 0o775, "a/b/d": 0o775} {
		if st := statOf(t, filepath.Join(dir, name)); st.Mode&permMask != want {
			t.Errorf("%s has mode %o, want %o", name, st.Mode&permMask, want)
		}
	}
	wantErrno(t, f.Mkdir(bg(), "a", 0o755), "a", syscall.EEXIST)
	mustWrite(t, filepath.Join(dir, "file"), "")
	wantErrno(t, f.MkdirAll(bg(), "file", 0o755), "file", syscall.ENOTDIR)
	wantErrno(t, f.MkdirAll(bg(), "file/x", 0o755), "file/x", syscall.ENOTDIR)
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := f.MkdirAll(bg(), "link/new", 0o755); err != nil {
		t.Errorf("through a link: %v", err)
	}
	if err := f.MkdirAll(bg(), "/", 0o755); err != nil {
		t.Errorf("root: %v", err)
	}
}

func TestMkdirKeepsSetgid(t *testing.T) {
	f, dir := ownFS(t)
	if err := f.Mkdir(bg(), "shared", 0o2775); err != nil {
		t.Fatal(err)
	}
	if err := f.Mkdir(bg(), "shared/sub", 0o777); err != nil {
		t.Fatal(err)
	}
	if st := statOf(t, filepath.Join(dir, "shared/sub")); st.Mode&permMask != 0o2777 {
		t.Errorf("mode %o", st.Mode&permMask)
	}
}

func TestTemp(t *testing.T) {
	f, dir := ownFS(t)
	path, err := f.MkdirTemp(bg(), ".", "pre-*-post")
	if err != nil {
		t.Fatal(err)
	}
	if ok, _ := filepath.Match("pre-?*-post", filepath.Base(path)); !ok || statOf(t, path).Mode&permMask != 0o700 {
		t.Errorf("%s", path)
	}
	h, err := f.CreateTemp(bg(), dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	if _, err := h.Write(bg(), []byte("data")); err != nil {
		t.Fatal(err)
	}
	wantContent(t, h.Path(), "data")
	if statOf(t, h.Path()).Mode&permMask != 0o600 {
		t.Error("mode")
	}
	if _, err := f.CreateTemp(bg(), "", "a/b"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("slash: %v", err)
	}
	wantErrno(t, func() error { _, err := f.MkdirTemp(bg(), "none", "x"); return err }(), "none", syscall.ENOENT)
}
