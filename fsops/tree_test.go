//go:build linux

package fsops_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/archive"
	"github.com/guestd/guestd/internal/passwd"
)

func treeSystem(t *testing.T) *fsops.System {
	t.Helper()
	sys, err := fsops.New(fsops.Config{LookupUser: func(spec string) (passwd.Identity, error) {
		switch spec {
		case "treeuser":
			return passwd.Identity{Name: spec, UID: 4321, GID: 4321}, nil
		case "0:treegroup":
			return passwd.Identity{Name: "root", GID: 8765}, nil
		}
		return passwd.Lookup(spec)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

func treeOwn(t *testing.T, base string) *fsops.FS {
	t.Helper()
	f, err := treeSystem(t).Own(base)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// treeTar is an archive with a directory, a set-user-ID program, and a link.
func treeTar(t *testing.T) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o750, Uid: 77, Gid: 78, Uname: "treeuser", Gname: "treegroup"},
		{Typeflag: tar.TypeReg, Name: "d/prog", Mode: 0o4755, Size: 4, Uid: 77, Gid: 78, Uname: "treeuser", Gname: "treegroup"},
		{Typeflag: tar.TypeReg, Name: "d/plain", Mode: 0o640, Size: 4, Uid: 99, Gid: 99, Uname: "0", Gname: "nosuchgroup"},
		{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "d/plain", Uid: 77, Gid: 78},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "data"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

type owned struct {
	uid, gid uint32
	mode     uint32
}

func ownerOf(t *testing.T, path string) owned {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return owned{st.Uid, st.Gid, st.Mode & 0o7777}
}

func TestUploadDownload(t *testing.T) {
	base := t.TempDir()
	f := treeOwn(t, base)
	sum, err := f.Upload(t.Context(), treeTar(t), "new/dest", fsops.UploadOptions{})
	if err != nil || sum.Files != 2 || sum.Dirs != 1 || sum.Symlinks != 1 {
		t.Fatalf("Upload: %+v, %v", sum, err)
	}
	me := owned{uint32(os.Geteuid()), uint32(os.Getegid()), 0o755}
	if got := ownerOf(t, base+"/new/dest/d/prog"); got != me {
		t.Errorf("prog is %+v, want %+v", got, me)
	}
	for _, contents := range []bool{false, true} {
		var b bytes.Buffer
		sum, err = f.Download(t.Context(), &b, "new/dest", fsops.DownloadOptions{ContentsOnly: contents, Exclude: []string{"prog"}})
		if err != nil || sum.Files != 1 || sum.Excluded != 1 {
			t.Fatalf("Download: %+v, %v", sum, err)
		}
		first, err := tar.NewReader(&b).Next()
		want := map[bool]string{false: "dest/", true: "./"}[contents]
		if err != nil || first.Name != want {
			t.Errorf("first entry %+v, %v", first, err)
		}
	}
}

func TestUploadErrors(t *testing.T) {
	base := t.TempDir()
	f := treeOwn(t, base)
	if err := os.Symlink("..", base+"/d"); err != nil {
		t.Fatal(err)
	}
	var unsafe *archive.UnsafeEntryError
	if _, err := f.Upload(t.Context(), treeTar(t), ".", fsops.UploadOptions{}); !errors.As(err, &unsafe) || unsafe.Name != "d/" {
		t.Errorf("over a link: %v", err)
	}
	if _, err := f.Upload(t.Context(), treeTar(t), "", fsops.UploadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty path: %v", err)
	}
	if _, err := f.Download(t.Context(), io.Discard, "missing", fsops.DownloadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := f.Download(t.Context(), io.Discard, ".", fsops.DownloadOptions{Exclude: []string{"["}}); !errors.Is(err, fsops.ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestTreeAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: only root may act for other users")
	}
	// t.TempDir lies in a directory that only its owner may enter.
	base, err := os.MkdirTemp("/tmp", "tree")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(base+"/roots", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+"/roots/secret", []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	user, err := treeSystem(t).As(passwd.Identity{Name: "u", UID: 1234, GID: 1235, Groups: []uint32{1235}, Home: "/"}, base)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := user.Upload(t.Context(), treeTar(t), "mine", fsops.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{"": 0o755, "d": 0o750, "d/prog": 0o755, "d/plain": 0o640, "l": 0o777} {
		if got := ownerOf(t, filepath.Join(base, "mine", name)); got.uid != 1234 || got.gid != 1235 || (name != "" && got.mode != mode) {
			t.Errorf("%q is %+v", name, got)
		}
	}
	// Owners that a user cannot give are noted, and set-id bits do not survive.
	sum, err := user.Upload(t.Context(), treeTar(t), "tried", fsops.UploadOptions{Owner: fsops.TreeOwnerNumeric})
	if err != nil || sum.NoteCount != 4 || sum.Notes[0].Reason != archive.ReasonOwner {
		t.Errorf("numeric as user: %+v, %v", sum, err)
	}
	if got := ownerOf(t, base+"/tried/d/prog"); got != (owned{1234, 1235, 0o755}) {
		t.Errorf("prog is %+v", got)
	}

	if _, err := user.Upload(t.Context(), treeTar(t), "roots", fsops.UploadOptions{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("into root's directory: %v", err)
	}
	if _, err := user.Download(t.Context(), io.Discard, "roots", fsops.DownloadOptions{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("root's file: %v", err)
	}
	sum, err = user.Download(t.Context(), io.Discard, "roots", fsops.DownloadOptions{SkipUnreadable: true})
	if err != nil || sum.NoteCount != 1 || sum.Notes[0].Name != "roots/secret" {
		t.Errorf("root's file skipped: %+v, %v", sum, err)
	}

	// A directory that exists and is another's keeps its mode.
	if err := os.MkdirAll(base+"/shared/d", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base+"/shared", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base+"/shared/d", 0o777); err != nil {
		t.Fatal(err)
	}
	sum, err = user.Upload(t.Context(), treeTar(t), "shared", fsops.UploadOptions{})
	if err != nil || sum.NoteCount != 1 || sum.Notes[0].Reason != archive.ReasonDir {
		t.Errorf("into a shared directory: %+v, %v", sum, err)
	}

	root := treeOwn(t, base)
	if _, err := root.Upload(t.Context(), treeTar(t), "numeric", fsops.UploadOptions{Owner: fsops.TreeOwnerNumeric}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Upload(t.Context(), treeTar(t), "names", fsops.UploadOptions{Owner: fsops.TreeOwnerNames}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]owned{
		"numeric/d": {77, 78, 0o750}, "numeric/d/prog": {77, 78, 0o4755}, "numeric/d/plain": {99, 99, 0o640}, "numeric/l": {77, 78, 0o777},
		"names/d": {4321, 8765, 0o750}, "names/d/prog": {4321, 8765, 0o4755}, "names/d/plain": {99, 99, 0o640}, "names/l": {77, 78, 0o777},
	} {
		if got := ownerOf(t, filepath.Join(base, path)); got != want {
			t.Errorf("%s is %+v, want %+v", path, got, want)
		}
	}
}
