//go:build linux

package fsops

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCopyFile(t *testing.T) {
	f, dir := ownFS(t)
	src := filepath.Join(dir, rawName)
	mustWrite(t, src, strings.Repeat("data", 100_000))
	when := time.Unix(1000, 2001)
	if err := errors.Join(f.Chmod(bg(), rawName, 0o4751), f.Chtimes(bg(), rawName, &when, &when, false)); err != nil {
		t.Fatal(err)
	}
	hasXattr := f.SetXattr(bg(), rawName, "user.k", []byte("v"), 0, false) == nil
	result, err := f.Copy(bg(), rawName, "copy", CopyOptions{Sync: true})
	if err != nil || result != (CopyResult{Files: 1, Bytes: 400_000}) {
		t.Fatalf("%+v, %v", result, err)
	}
	info, err := f.Stat(bg(), "copy") // before reading changes a time
	if err != nil || info.Perm() != 0o4751 || !info.Mtime.Equal(when) || !info.Atime.Equal(when) {
		t.Errorf("%+v, %v", info, err)
	}
	if value, err := f.GetXattr(bg(), "copy", "user.k", false); hasXattr && (err != nil || string(value) != "v") {
		t.Errorf("attribute %q, %v", value, err)
	}
	wantContent(t, filepath.Join(dir, "copy"), strings.Repeat("data", 100_000))

	mustWrite(t, filepath.Join(dir, "other"), "other")
	if _, err := f.Copy(bg(), "other", "copy", CopyOptions{NoReplace: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("no replace: %v", err)
	}
	if err := os.Symlink("copy", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Copy(bg(), "other", "link", CopyOptions{}); err != nil {
		t.Error(err)
	}
	wantContent(t, filepath.Join(dir, "copy"), "other")
	if _, err := f.Copy(bg(), "link", "link2", CopyOptions{NoFollow: true}); err != nil {
		t.Error(err)
	}
	if target, err := f.Readlink(bg(), "link2"); target != "copy" || err != nil {
		t.Errorf("copied link: %q, %v", target, err)
	}
	makeTree(t, dir, "d/")
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Copy(bg(), "copy", "fifo", CopyOptions{}); !errors.Is(err, ErrSpecial) {
		t.Errorf("over a FIFO: %v", err)
	}
	if info, err := f.Stat(bg(), "fifo"); err != nil || !info.IsSpecial() {
		t.Errorf("%+v, %v", info, err)
	}
	for _, test := range []struct {
		from, to string
		errno    syscall.Errno
	}{
		{"copy", "copy", syscall.EINVAL}, {"copy", "link", syscall.EINVAL}, {"none", "x", syscall.ENOENT}, {"copy", "d", syscall.EISDIR},
		{"d", "x", syscall.EISDIR}, {"copy", "none/x", syscall.ENOENT}, {"", "x", syscall.ENOENT}, {"copy", "", syscall.ENOENT},
	} {
		if _, err := f.Copy(bg(), test.from, test.to, CopyOptions{}); !errors.Is(err, test.errno) {
			t.Errorf("%q to %q: %v, want %v", test.from, test.to, err, test.errno)
		}
	}
	wantContent(t, filepath.Join(dir, "copy"), "other")
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestCopyKeepsHoles(t *testing.T) {
	f, dir := memFS(t)
	file, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 1 << 30
	for _, at := range []int64{0, 100 << 20, 100<<20 + 4096, 500 << 20} {
		if _, err := file.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	result, err := f.Copy(bg(), "sparse", "copy", CopyOptions{})
	if err != nil || result.Bytes != size {
		t.Fatalf("%+v, %v", result, err)
	}
	info, err := f.Stat(bg(), "copy")
	if err != nil || info.Size != size || info.Blocks*512 > 1<<20 {
		t.Errorf("size %d, %d bytes allocated, %v", info.Size, info.Blocks*512, err)
	}
	for _, at := range []int64{0, 100 << 20, 100<<20 + 4096, 500 << 20} {
		if got := readAll(t, f, "copy", ReadOptions{Offset: at, Length: 5}); got != "data\x00" {
			t.Errorf("at %d: %q", at, got)
		}
	}
}

func TestCopyTree(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "src/a/file", "src/b/c/d/", "src/b/out -> ../../keep", "src/b/dangling -> none", "keep/precious", "src/a/"+rawName)
	src := filepath.Join(dir, "src")
	if err := errors.Join(
		os.Link(src+"/a/file", src+"/b/c/hard"),
		unix.Mkfifo(src+"/fifo", 0o600),
		os.Chmod(src+"/b", 0o2750|fs.ModeSetgid),
		os.Chmod(src+"/b/c/d", 0o500),
		os.Chtimes(src+"/b", time.Unix(5, 0), time.Unix(6, 7)),
	); err != nil {
		t.Fatal(err)
	}
	result, err := f.Copy(bg(), "src/", "dst/", CopyOptions{Recursive: true, Owner: true})
	want := CopyResult{Files: 3, Dirs: 5, Links: 3, Bytes: int64(len("src/a/file") + len("src/a/"+rawName))}
	if err != nil || result != want {
		t.Errorf("%+v, %v; want %+v", result, err, want)
	}
	a, hard := statOf(t, filepath.Join(dir, "dst/a/file")), statOf(t, filepath.Join(dir, "dst/b/c/hard"))
	if a.Ino != hard.Ino || a.Nlink != 2 {
		t.Errorf("hard link lost: %d %d, %d links", a.Ino, hard.Ino, a.Nlink)
	}
	wantContent(t, filepath.Join(dir, "dst/a", rawName), "src/a/"+rawName)
	for name, mode := range map[string]uint32{"dst/fifo": unix.S_IFIFO | 0o600, "dst/b": unix.S_IFDIR | 0o2750, "dst/b/c/d": unix.S_IFDIR | 0o500, "dst/b/out": unix.S_IFLNK | 0o777} {
		if st := statOf(t, filepath.Join(dir, name)); st.Mode != mode {
			t.Errorf("%s has mode %o, want %o", name, st.Mode, mode)
		}
	}
	if st := statOf(t, filepath.Join(dir, "dst/b")); st.Mtim != (unix.Timespec{Sec: 6, Nsec: 7}) {
		t.Errorf("time of a directory: %+v", st.Mtim)
	}

	// Once more over it: files are replaced, links not followed.
	makeTree(t, dir, "src2/b/out", "src2/a/file")
	if result, err := f.Copy(bg(), "src2", "dst", CopyOptions{Recursive: true}); err != nil || result.Files != 2 || result.Dirs != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	wantContent(t, filepath.Join(dir, "dst/b/out"), "src2/b/out")
	wantContent(t, filepath.Join(dir, "dst/b/c/hard"), "src/a/file")
	wantContent(t, filepath.Join(dir, "keep/precious"), "keep/precious")

	// Into itself.
	if result, err := f.Copy(bg(), "src2", "src2/b/copy", CopyOptions{Recursive: true}); err != nil || result.Dirs != 3 {
		t.Errorf("into itself: %+v, %v", result, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "src2/b/copy/b/copy")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy is in the copy: %v", err)
	}
	if _, err := f.Copy(bg(), "src2", "src2/.", CopyOptions{Recursive: true}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("onto itself: %v", err)
	}
	// A directory must not be put where a link leads.
	makeTree(t, dir, "src3/d/x", "dst3/d -> ../keep")
	if result, err := f.Copy(bg(), "src3", "dst3", CopyOptions{Recursive: true}); err == nil || result.Failed != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "keep/x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("copied through a link: %v", err)
	}
}

func TestCopyGoesOnBehindErrors(t *testing.T) {
	f, dir := userFS(t)
	makeTree(t, dir, "src/a", "src/secret", "src/closed/x", "src/z")
	if err := errors.Join(os.Chmod(filepath.Join(dir, "src/secret"), 0o600), os.Chmod(filepath.Join(dir, "src/closed"), 0o700)); err != nil {
		t.Fatal(err)
	}
	result, err := f.Copy(bg(), "src", "dst", CopyOptions{Recursive: true, Owner: true})
	var pe *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &pe) || !strings.HasPrefix(pe.Path, "src/") {
		t.Errorf("%v", err)
	}
	if result.Failed != 2 || result.Files != 2 || result.Dirs != 1 {
		t.Errorf("%+v", result)
	}
	if st := statOf(t, filepath.Join(dir, "dst/z")); st.Uid != testIdentity.UID {
		t.Errorf("owner %d", st.Uid)
	}
	ctx, cancel := context.WithCancel(bg())
	cancel()
	if _, err := f.Copy(ctx, "src", "dst2", CopyOptions{Recursive: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What root's files are, a user's copies must not be: setuid stays with root.
func TestCopyDropsForeignSetuid(t *testing.T) {
	f, dir := userFS(t)
	mustWrite(t, filepath.Join(dir, "su"), "x")
	if err := unix.Chmod(filepath.Join(dir, "su"), 0o6755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Copy(bg(), "su", "copy", CopyOptions{Owner: true}); err != nil {
		t.Fatal(err)
	}
	if st := statOf(t, filepath.Join(dir, "copy")); st.Mode&permMask != 0o755 || st.Uid != testIdentity.UID {
		t.Errorf("mode %o of %d", st.Mode, st.Uid)
	}
}

func TestCopyOwner(t *testing.T) {
	needRoot(t)
	f, dir := ownFS(t)
	makeTree(t, dir, "src/file", "src/link -> file")
	for _, name := range []string{"src", "src/file", "src/link"} {
		if err := os.Lchown(filepath.Join(dir, name), 61000, 61001); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(dir, "src/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("SKIP: cannot make a device: %v", err)
	}
	for to, opts := range map[string]CopyOptions{"kept": {Recursive: true, Owner: true}, "roots": {Recursive: true}} {
		if _, err := f.Copy(bg(), "src", to, opts); err != nil {
			t.Fatal(err)
		}
		want := uint32(0)
		if opts.Owner {
			want = 61000
		}
		for _, name := range []string{"", "file", "link"} {
			if st := statOf(t, filepath.Join(dir, to, name)); st.Uid != want {
				t.Errorf("%s/%s belongs to %d", to, name, st.Uid)
			}
		}
		if st := statOf(t, filepath.Join(dir, to, "null")); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("device: %o %x", st.Mode, st.Rdev)
		}
	}
}
