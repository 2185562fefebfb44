package conformance

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/client"
)

// trees is about moving files and trees between the host and the guest.
func (s *suite) trees(t *testing.T) {
	t.Run("there and back", s.roundTrip)
	t.Run("there copied and back", s.copied)
	t.Run("exclude", s.treeExclude)
	t.Run("merge", s.treeMerge)
	t.Run("owners", s.treeOwners)
	t.Run("of a guest", s.guestTree)
	t.Run("one file", s.oneFile)
	t.Run("sparse file", s.sparseFile)
	t.Run("bounds", s.treeBounds)
	t.Run("through a cut", s.transferCut)
	t.Run("tree cut", s.treeCut)
	t.Run("unsafe entries", s.unsafeEntries)
	t.Run("unsafe destination", s.unsafeDestination)
	t.Run("bad archives", s.badArchives)
}

func (s *suite) roundTrip(t *testing.T) {
	ctx, from, to, guest := s.context(t), filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to"), s.path(t, "tree")
	holes := int64(s.scale(64, 8)) << 20
	size := hostTree(t, from, holes)
	var last client.Progress
	up, err := s.client.Upload(ctx, from, guest, client.UploadOptions{Progress: func(p client.Progress) { last = p }})
	must(t, err)
	defer func() { must(t, s.client.Files().Chmod(ctx, guest+"/closed", 0o755)) }() // to be removed
	want := describe(t, from)
	if up.Files != 11 || up.Symlinks != 3 || up.HardLinks != 1 || up.Bytes < size || up.Bytes > size+1<<20 {
		t.Errorf("uploaded: %+v, of %d bytes", up, size)
	}
	if last.Bytes != up.Bytes || last.Files == 0 || last.Total <= 0 {
		t.Errorf("the last progress is %+v", last)
	}
	s.guestHas(t, guest, holes)
	last = client.Progress{}
	down, err := s.client.Download(ctx, guest, to, client.DownloadOptions{Progress: func(p client.Progress) { last = p }})
	must(t, err)
	if down.Files != up.Files || down.Symlinks != up.Symlinks || down.HardLinks != up.HardLinks || down.Directories != up.Directories {
		t.Errorf("uploaded: %+v, downloaded: %+v", up, down)
	}
	if last.Bytes != down.Bytes || last.Files == 0 {
		t.Errorf("the last progress is %+v", last)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(to, "closed"), 0o755) })
	got := describe(t, to)
	if up.Skipped > 0 { // then the guest has no attributes, and says so
		withoutXattrs(t, up.Skips, got, want)
	}
	sameTree(t, got, want)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(to, "sparse"), &st); err != nil || st.Blocks*512 > 2<<20 {
		t.Errorf("the sparse file takes %d bytes here, %v", st.Blocks*512, err)
	}
}

// copied copies an uploaded tree within the guest: what comes back is the same.
func (s *suite) copied(t *testing.T) {
	ctx, from, to, guest := s.context(t), filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to"), s.path(t, "tree")
	hostTree(t, from, 4<<20)
	up, err := s.client.Upload(ctx, from, guest, client.UploadOptions{})
	must(t, err)
	_, err = s.client.Files().Copy(ctx, guest, guest+"-copy", client.CopyOptions{Recursive: true})
	must(t, err)
	for _, tree := range []string{guest, guest + "-copy"} {
		defer func() { must(t, s.client.Files().Chmod(ctx, tree+"/closed", 0o755)) }() // to be removed
	}
	_, err = s.client.Download(ctx, guest+"-copy", to, client.DownloadOptions{})
	must(t, err)
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(to, "closed"), 0o755) })
	got, want := describe(t, to), describe(t, from)
	if up.Skipped > 0 {
		withoutXattrs(t, up.Skips, got, want)
	}
	sameTree(t, got, want)
}

// guestHas looks at an uploaded tree with the guest's eyes.
func (s *suite) guestHas(t *testing.T, guest string, holes int64) {
	t.Helper()
	got := s.sh(t, `cd %s; stat -c '%%n %%a %%s %%h' plain run.sh nothing deep/er/file empty closed deep | cut -d' ' -f1-3
readlink link; readlink dead; stat -c %%i plain; stat -c %%i deep/hard; cat "$(printf 'caf\351')"; ls empty | wc -l`, guest)
	lines := strings.Split(got, "\n")
	if len(lines) != 12 || lines[9] != lines[10] {
		t.Fatalf("the guest says %q", lines)
	}
	for i, want := range map[int]string{0: "plain 640 300000", 1: "run.sh 751 10", 2: "nothing 400 0", 3: "deep/er/file 644 4", 7: "plain", 8: "/no/where"} {
		if lines[i] != want {
			t.Errorf("the guest says %q, want %q", lines[i], want)
		}
	}
	sparse, err := s.client.Files().Stat(s.context(t), guest+"/sparse")
	if err != nil || sparse.Size() != holes || sparse.Allocated() > 2<<20 {
		t.Errorf("the sparse file takes %d bytes of %d there, %v", sparse.Allocated(), sparse.Size(), err)
	}
}

func (s *suite) treeExclude(t *testing.T) {
	ctx, from, guest := s.context(t), t.TempDir(), s.path(t, "tree")
	for _, name := range []string{"keep.go", "drop.o", "dir/drop.o", "dir/keep.c", "node_modules/x/y", "dir/node_modules/z"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(from, name), []byte(name), 0o644))
	}
	exclude := []string{"*.o", "node_modules"}
	_, err := s.client.Upload(ctx, from, guest, client.UploadOptions{Exclude: exclude})
	must(t, err)
	if got := s.sh(t, "cd %s; find . -type f | sort | xargs", guest); got != "./dir/keep.c ./keep.go" {
		t.Errorf("uploaded: %s", got)
	}
	_, err = s.client.Upload(ctx, from, guest, client.UploadOptions{})
	must(t, err)
	to := filepath.Join(t.TempDir(), "to")
	_, err = s.client.Download(ctx, guest, to, client.DownloadOptions{Exclude: exclude})
	must(t, err)
	names := slices.Sorted(maps.Keys(describe(t, to)))
	if got := strings.Join(names, " "); got != " /dir /dir/keep.c /keep.go" {
		t.Errorf("downloaded: %s", got)
	}
}

// treeMerge: files replace others whole, or not at all.
func (s *suite) treeMerge(t *testing.T) {
	ctx, from, guest := s.context(t), t.TempDir(), s.path(t, "tree")
	for _, name := range []string{"both", "link", "new"} {
		must(t, os.WriteFile(filepath.Join(from, name), []byte("host"), 0o644))
	}
	s.sh(t, "mkdir %s; cd %s; echo guest >both; echo guest >own; echo target >../target; ln -s ../target link; ln both second", guest, guest)
	_, err := s.client.Upload(ctx, from, guest, client.UploadOptions{KeepExisting: true})
	must(t, err)
	if got := s.sh(t, "cd %s; cat both new", guest); got != "guest\nhost" {
		t.Errorf("with what is there kept: %q", got)
	}
	_, err = s.client.Upload(ctx, from, guest, client.UploadOptions{})
	must(t, err)
	if got := s.sh(t, "cd %s; cat both own ../target link second; stat -c %%F link", guest); got != "hostguest\ntarget\nhostguest\nregular file" {
		t.Errorf("after the merge: %q", got)
	}
}

func (s *suite) treeOwners(t *testing.T) {
	user := s.needUser(t)
	ctx, from, guest := s.context(t), t.TempDir(), s.path(t, "tree")
	must(t, os.Mkdir(filepath.Join(from, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(from, "dir/file"), []byte("x"), 0o644))
	must(t, os.Symlink("file", filepath.Join(from, "dir/link")))
	owners := func(path string) string {
		return s.sh(t, "find %s | xargs stat -c %%u:%%g | sort -u", path)
	}
	_, err := s.client.Upload(ctx, from, guest, client.UploadOptions{User: user})
	must(t, err)
	if got := owners(guest); got != user {
		t.Errorf("uploaded as %s it belongs to %s", user, got)
	}
	numeric := s.path(t, "numeric")
	want := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	if os.Getuid() == 0 {
		want = "12345:23456"
		for _, name := range []string{"", "dir", "dir/file", "dir/link"} {
			must(t, os.Lchown(filepath.Join(from, name), 12345, 23456))
		}
	}
	_, err = s.client.Upload(ctx, from, numeric, client.UploadOptions{Owners: client.OwnersNumeric})
	must(t, err)
	if got := owners(numeric); got != want {
		t.Errorf("with its owners kept it belongs to %s, want %s", got, want)
	}
}

// guestTree has what only a guest would make.
func (s *suite) guestTree(t *testing.T) {
	guest, to := s.path(t, "tree"), filepath.Join(t.TempDir(), "to")
	s.sh(t, "mkdir -p %s/a/b; cd %s; mkfifo fifo; ln -s / root; ln -s ../../../../etc/passwd a/up; echo x >a/b/x; chmod 4755 a/b/x; ln a/b/x second; ln -s . a/self", guest, guest)
	down, err := s.client.Download(s.context(t), guest, to, client.DownloadOptions{})
	must(t, err)
	if down.Files != 1 || down.HardLinks != 1 || down.Symlinks != 3 || down.Skipped == 0 {
		t.Errorf("downloaded: %+v", down)
	}
	info, err := os.Lstat(filepath.Join(to, "a/b/x"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v: what a guest made may not be setuid here", info.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(to, "a/up")); target != "../../../../etc/passwd" || err != nil {
		t.Errorf("a link holds %q, %v", target, err)
	}
	_, err = s.client.Download(s.context(t), guest+"/none", filepath.Join(t.TempDir(), "none"), client.DownloadOptions{})
	wantError(t, "nothing", err, fs.ErrNotExist)
	_, err = s.client.Download(s.context(t), guest+"/fifo", filepath.Join(t.TempDir(), "none"), client.DownloadOptions{})
	wantError(t, "a FIFO", err, client.ErrWrongType)
}

// treeBounds: a guest cannot fill this machine.
func (s *suite) treeBounds(t *testing.T) {
	guest := s.path(t, "tree")
	s.sh(t, "mkdir %s; cd %s; echo 1234567890 >a; echo 1234567890 >b; echo 1234567890 >c", guest, guest)
	for _, o := range []client.DownloadOptions{{MaxBytes: 20}, {MaxEntries: 2}} {
		to := filepath.Join(t.TempDir(), "to")
		_, err := s.client.Download(s.context(t), guest, to, o)
		wantError(t, fmt.Sprintf("%+v", o), err, client.ErrLimit)
		if entries, err := os.ReadDir(filepath.Dir(to)); err != nil || len(entries) != 0 {
			t.Errorf("left here: %v, %v", entries, err)
		}
	}
}

// treeCut: of a tree that breaks off, no file is half there.
func (s *suite) treeCut(t *testing.T) {
	ctx, from, guest := s.context(t), t.TempDir(), s.path(t, "tree")
	const files, size = 40, 50_000
	for i := range files {
		must(t, os.WriteFile(filepath.Join(from, fmt.Sprint(i)), noise(size), 0o644))
	}
	for _, download := range []bool{false, true} {
		line := &brittle{dial: s.target.Dial, bytes: files * size / 2}
		line.lives.Store(1)
		c := s.connect(t, line.connect)
		to := filepath.Join(t.TempDir(), "to")
		var err error
		if download {
			_, err = c.Download(ctx, guest, to, client.DownloadOptions{})
		} else {
			_, err = c.Upload(ctx, from, guest, client.UploadOptions{})
		}
		wantError(t, "cut", err, client.ErrUnavailable)
		c.Close()
		if download {
			if entries, err := os.ReadDir(filepath.Dir(to)); err != nil || len(entries) != 0 {
				t.Errorf("left here: %v, %v", entries, err)
			}
			break
		}
		eventually(t, "the files are whole", func() bool {
			// All that was sent may have waited in the agent for a call that
			// ended before it began: then there is no directory.
			return s.sh(t, "[ ! -d %s ] || find %s -type f ! -size %dc", guest, guest, size) == ""
		})
		_, err = s.client.Upload(ctx, from, guest, client.UploadOptions{})
		must(t, err)
	}
	if got := s.sh(t, "ls -A %s | wc -l", guest); strings.TrimSpace(got) != fmt.Sprint(files) {
		t.Errorf("%s files are there", got)
	}
}
