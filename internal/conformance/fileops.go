package conformance

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

// fileOps is about changing what is there, other than by writing.
func (s *suite) fileOps(t *testing.T) {
	t.Run("mkdir", s.mkdir)
	t.Run("remove", s.remove)
	t.Run("rename", s.rename)
	t.Run("copy", s.copyFile)
	t.Run("copy tree", s.copyTree)
	t.Run("links", s.links)
	t.Run("realpath", s.realPath)
	t.Run("chmod", s.chmod)
	t.Run("chtimes", s.chtimes)
	t.Run("truncate", s.truncate)
	t.Run("temporary", s.temporary)
}

func (s *suite) mkdir(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "dir")
	for _, perm := range []fs.FileMode{0o777, 0o700, 0o2775, 0o1777} {
		perm = perm.Perm() | special(uint32(perm))
		must(t, files.Mkdir(ctx, dir, perm))
		if info, err := files.Stat(ctx, dir); err != nil || info.Mode() != fs.ModeDir|perm {
			t.Errorf("%v, %v; want %v", info, err, perm)
		}
		must(t, files.Remove(ctx, dir))
	}
	wantError(t, "without parent", files.Mkdir(ctx, dir+"/a/b", 0o755), fs.ErrNotExist)
	for range 2 { // what is there is fine
		must(t, files.MkdirAll(ctx, dir+"/a/b/c", 0o700))
	}
	if got := s.sh(t, "stat -c %%a %s/a/b/c", dir); got != "700" {
		t.Errorf("mode %s", got)
	}
	wantError(t, "again", files.Mkdir(ctx, dir+"/a", 0o755), fs.ErrExist)
	s.put(t, dir+"/file", "")
	wantError(t, "over a file", files.MkdirAll(ctx, dir+"/file", 0o755))
	wantError(t, "below a file", files.MkdirAll(ctx, dir+"/file/x", 0o755), syscall.ENOTDIR)
}

// special is the bits of a Linux mode that Go has elsewhere.
func special(bits uint32) (mode fs.FileMode) {
	for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= m
		}
	}
	return mode
}

func (s *suite) remove(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "dir")
	s.sh(t, "mkdir -p %s/tree/deep %s/outside; cd %s; echo canary >outside/canary; echo x >tree/deep/x; ln -s %s/outside tree/link; ln -s ../outside/canary tree/deep/link; ln -s outside toplink", dir, dir, dir, dir)
	wantError(t, "not empty", files.Remove(ctx, dir+"/tree"), client.ErrNotEmpty, syscall.ENOTEMPTY)
	wantError(t, "nothing", files.Remove(ctx, dir+"/none"), fs.ErrNotExist)
	if n, err := files.RemoveAll(ctx, dir+"/none"); n != 0 || err != nil {
		t.Errorf("nothing: %d removed, %v", n, err)
	}
	if n, err := files.RemoveAll(ctx, dir+"/tree"); n != 5 || err != nil {
		t.Errorf("the tree: %d removed, %v; want 5", n, err)
	}
	if n, err := files.RemoveAll(ctx, dir+"/toplink"); n != 1 || err != nil {
		t.Errorf("a link: %d removed, %v; want 1", n, err)
	}
	if got := s.get(t, dir+"/outside/canary"); got != "canary\n" {
		t.Errorf("what a link leads to is %q now", got)
	}
	must(t, files.Remove(ctx, dir+"/outside/canary"))
	must(t, files.Remove(ctx, dir+"/outside"))
	if left := s.names(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func (s *suite) rename(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	a, b := dir+"a", dir+"b"
	s.put(t, a, "A")
	must(t, files.Rename(ctx, a, b, client.RenameOptions{}))
	s.put(t, a, "A2")
	wantError(t, "no replacing", files.Rename(ctx, a, b, client.RenameOptions{NoReplace: true}), fs.ErrExist)
	must(t, files.Rename(ctx, a, b, client.RenameOptions{Exchange: true}))
	if got := s.get(t, a) + s.get(t, b); got != "AA2" {
		t.Errorf("exchanged: %q", got)
	}
	must(t, files.Rename(ctx, a, b, client.RenameOptions{}))
	if got := s.get(t, b); got != "A" {
		t.Errorf("replaced: %q", got)
	}
	wantError(t, "nothing", files.Rename(ctx, a, b, client.RenameOptions{}), fs.ErrNotExist)
	wantError(t, "exchange with nothing", files.Rename(ctx, b, a, client.RenameOptions{Exchange: true}), fs.ErrNotExist)
	s.sh(t, "mkdir -p %sd/in %se/full", dir, dir)
	wantError(t, "over a full directory", files.Rename(ctx, dir+"d", dir+"e", client.RenameOptions{}), client.ErrNotEmpty)
	wantError(t, "into itself", files.Rename(ctx, dir+"d", dir+"d/in/d", client.RenameOptions{}), syscall.EINVAL)
	wantError(t, "both ways", files.Rename(ctx, b, a, client.RenameOptions{Exchange: true, NoReplace: true}), client.ErrInvalidRequest)
	if got := s.get(t, b); got != "A" {
		t.Errorf("after all the errors: %q", got)
	}
}

func (s *suite) copyFile(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	content := string(noise(300_000))
	from, to := dir+"from", dir+"to"
	s.put(t, from, content)
	when := time.Unix(1_234_567_890, 123_456_789)
	must(t, files.Chmod(ctx, from, 0o640))
	must(t, files.Chtimes(ctx, from, when, when))
	result, err := files.Copy(ctx, from, to, client.CopyOptions{})
	if err != nil || result.Files != 1 || result.Bytes != 300_000 {
		t.Errorf("%+v, %v", result, err)
	}
	info, err := files.Stat(ctx, to)
	must(t, err)
	if s.get(t, to) != content || info.Mode() != 0o640 || !info.ModTime().Equal(when) {
		t.Errorf("the copy is %v, %v", info, info.ModTime())
	}
	s.put(t, from, "other")
	_, err = files.Copy(ctx, from, to, client.CopyOptions{NoReplace: true})
	wantError(t, "no replacing", err, fs.ErrExist)
	if s.get(t, to) != content {
		t.Error("it was replaced")
	}
	_, err = files.Copy(ctx, from, to, client.CopyOptions{})
	if got := s.get(t, to); got != "other" || err != nil {
		t.Errorf("replaced: %q, %v", got, err)
	}
	_, err = files.Copy(ctx, dir+"none", to, client.CopyOptions{})
	wantError(t, "nothing", err, fs.ErrNotExist)
	must(t, files.Symlink(ctx, "from", dir+"link"))
	_, err = files.Copy(ctx, dir+"link", dir+"link2", client.CopyOptions{NoFollow: true})
	must(t, err)
	if target, err := files.Readlink(ctx, dir+"link2"); target != "from" || err != nil {
		t.Errorf("the link's copy holds %q, %v", target, err)
	}
	_, err = files.Copy(ctx, from, from, client.CopyOptions{})
	wantError(t, "onto itself", err, syscall.EINVAL)
	if got := s.get(t, from); got != "other" {
		t.Errorf("copied onto itself, it holds %q", got)
	}
}

func (s *suite) copyTree(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	s.sh(t, "mkdir -p %sfrom/a/empty; cd %sfrom; echo 1 >a/1; ln a/1 a/2; ln -s 1 a/link; ln -s /nowhere a/dead; chmod 2750 a; mkfifo a/fifo", dir, dir)
	must(t, files.Truncate(ctx, dir+"from/a/1", 2))
	s.put(t, dir+"from/sparse", "")
	must(t, files.Truncate(ctx, dir+"from/sparse", 32<<20))
	_, err := files.Copy(ctx, dir+"from", dir+"to", client.CopyOptions{})
	wantError(t, "without Recursive", err, client.ErrWrongType)
	_, err = files.Copy(ctx, dir+"from", dir+"to", client.CopyOptions{Recursive: true})
	must(t, err)
	const list = `cd %s%s; find . | sort | while read -r f; do
	if [ -L "$f" ]; then echo "$f -> $(readlink "$f")"; else stat -c '%%n %%a %%F' "$f"; fi
done`
	if from, to := s.sh(t, list, dir, "from"), s.sh(t, list, dir, "to"); from != to {
		t.Errorf("%s\nbecame\n%s", from, to)
	}
	sparse, err := files.Stat(ctx, dir+"to/sparse")
	if err != nil || sparse.Size() != 32<<20 || sparse.Allocated() > 1<<20 {
		t.Errorf("the sparse file's copy takes %d of %d bytes, %v", sparse.Allocated(), sparse.Size(), err)
	}
	// Into itself, a copy comes to an end.
	_, err = files.Copy(ctx, dir+"from", dir+"from/a/empty/in", client.CopyOptions{Recursive: true})
	must(t, err)
	if left := s.names(t, dir+"from/a/empty/in/a/empty"); len(left) != 0 {
		t.Errorf("the copy holds itself: %q", left)
	}
}

func (s *suite) links(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	s.put(t, dir+"file", "x")
	must(t, files.Link(ctx, dir+"file", dir+"hard"))
	if a, b := s.sh(t, "stat -c %%i:%%h %sfile", dir), s.sh(t, "stat -c %%i:%%h %shard", dir); a != b || !strings.HasSuffix(a, ":2") {
		t.Errorf("%s and %s", a, b)
	}
	wantError(t, "link there", files.Link(ctx, dir+"file", dir+"hard"), fs.ErrExist)
	wantError(t, "link to nothing", files.Link(ctx, dir+"none", dir+"hard2"), fs.ErrNotExist)
	for _, target := range []string{"file", "../..", "/no/where", "with space", "no//clean/./up/"} {
		link := dir + "soft"
		must(t, files.Symlink(ctx, target, link))
		if got, err := files.Readlink(ctx, link); got != target || err != nil {
			t.Errorf("%q, %v; want %q", got, err, target)
		}
		if got := s.sh(t, "readlink %s", link); got != target {
			t.Errorf("the guest reads %q, want %q", got, target)
		}
		wantError(t, "symlink there", files.Symlink(ctx, target, link), fs.ErrExist)
		must(t, files.Remove(ctx, link))
	}
	_, err := files.Readlink(ctx, dir+"file")
	wantError(t, "readlink of a file", err)
}

func (s *suite) realPath(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	s.sh(t, "mkdir -p %sa/b; cd %sa; : >b/file; ln -s b link; ln -s link/file link2; ln -s none dead", dir, dir)
	for asked, want := range map[string]string{
		"link2":                "a/b/file",
		"link/../link/file":    "a/b/file",
		"./b//file":            "a/b/file",
		"link/none":            "!a/b/none",
		"none/at/../all":       "!a/none/all",
		"dead":                 "!a/none",
		"b/file/../..":         "x",
		"../a/b/../../a/link/": "a/b",
	} {
		mustExist, ok := strings.CutPrefix(want, "!")
		got, err := files.RealPath(ctx, dir+"a/"+asked, false)
		switch {
		case want == "x": // a file is not a directory to go up from
			wantError(t, asked, err, syscall.ENOTDIR)
			continue
		case ok:
			wantError(t, asked, err, fs.ErrNotExist)
		case err != nil || got != dir+want:
			t.Errorf("%s: %q, %v; want %q", asked, got, err, dir+want)
		}
		if got, err := files.RealPath(ctx, dir+"a/"+asked, true); err != nil || got != dir+mustExist {
			t.Errorf("%s, which may be missing: %q, %v; want %q", asked, got, err, dir+mustExist)
		}
	}
	base := path.Clean(dir) + "/a/link"
	if got, err := s.client.FilesAs("", base).RealPath(ctx, "", false); got != dir+"a/b" || err != nil {
		t.Errorf("the base: %q, %v", got, err)
	}
}

func (s *suite) chmod(t *testing.T) {
	ctx, files, file := s.context(t), s.client.Files(), s.path(t, "file")
	s.put(t, file, "")
	for _, bits := range []uint32{0, 0o644, 0o777, 0o4755, 0o6711, 0o1600, 0o400} {
		must(t, files.Chmod(ctx, file, fs.FileMode(bits)&fs.ModePerm|special(bits)))
		if got := s.sh(t, "stat -c %%a %s", file); got != strconv.FormatUint(uint64(bits), 8) {
			t.Errorf("chmod %o gives %s", bits, got)
		}
	}
	must(t, files.Symlink(ctx, "file", file+"-link"))
	must(t, files.Chmod(ctx, file+"-link", 0o604))
	if got := s.sh(t, "stat -c %%a %s", file); got != "604" {
		t.Errorf("chmod of a link gives its file %s", got)
	}
	wantError(t, "nothing", files.Chmod(ctx, file+"-none", 0o644), fs.ErrNotExist)
}

func (s *suite) chtimes(t *testing.T) {
	ctx, files, file := s.context(t), s.client.Files(), s.path(t, "file")
	link := file + "-link"
	s.put(t, file, "")
	must(t, files.Symlink(ctx, "file", link))
	a, m := time.Unix(1_000_000_000, 987_654_321), time.Unix(1_500_000_000, 123_456_789)
	check := func(path string, access, modify time.Time) {
		t.Helper()
		info, err := files.Lstat(ctx, path)
		if err != nil || !info.AccessTime().Equal(access) || !info.ModTime().Equal(modify) {
			t.Errorf("%s: %v and %v, %v; want %v and %v", path, info.AccessTime(), info.ModTime(), err, access, modify)
		}
	}
	must(t, files.Chtimes(ctx, file, a, m))
	check(file, a, m)
	if got := s.sh(t, "stat -c '%%X %%Y' %s", file); got != "1000000000 1500000000" {
		t.Errorf("the guest says %s", got)
	}
	early := time.Unix(-86_400, 5)
	must(t, files.Chtimes(ctx, file, time.Time{}, early))
	check(file, a, early)
	must(t, files.Chtimes(ctx, link, m, time.Time{})) // through the link
	check(file, m, early)
	must(t, files.Lchtimes(ctx, link, a, a))
	check(file, m, early)
	check(link, a, a)
	clock := func() int64 {
		seconds, err := strconv.ParseInt(s.sh(t, "date +%%s"), 10, 64)
		must(t, err)
		return seconds
	}
	// Files get the time of the clock's last tick, which may be of the second
	// before.
	from := clock() - 1
	must(t, files.Chtimes(ctx, file, time.Time{}, time.Time{}))
	info, err := files.Stat(ctx, file)
	must(t, err)
	now := info.ModTime().Unix()
	if to := clock(); now < from || now > to || info.AccessTime().Unix() != info.ModTime().Unix() {
		t.Errorf("now is %d, not from %d to %d", now, from, to)
	}
}

func (s *suite) truncate(t *testing.T) {
	ctx, files, file := s.context(t), s.client.Files(), s.path(t, "file")
	s.put(t, file, "0123456789")
	must(t, files.Truncate(ctx, file, 4))
	must(t, files.Truncate(ctx, file, 6))
	if got := s.get(t, file); got != "0123\x00\x00" {
		t.Errorf("%q", got)
	}
	wantError(t, "negative", files.Truncate(ctx, file, -1), client.ErrInvalidRequest)
	wantError(t, "nothing", files.Truncate(ctx, file+"-none", 0), fs.ErrNotExist)
	wantError(t, "a directory", files.Truncate(ctx, path.Dir(file), 0), client.ErrWrongType)
	if got := s.get(t, file); got != "0123\x00\x00" {
		t.Errorf("after the errors: %q", got)
	}
}

func (s *suite) temporary(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")
	seen := map[string]bool{}
	for range 20 {
		file, err := files.CreateTemp(ctx, dir, "a-*-b")
		must(t, err)
		made, err := files.MkdirTemp(ctx, dir, "d")
		must(t, err)
		name := path.Base(file)
		if path.Dir(file) != dir || !strings.HasPrefix(name, "a-") || !strings.HasSuffix(name, "-b") || !strings.HasPrefix(path.Base(made), "d") || seen[file] || seen[made] {
			t.Errorf("%s, %s", file, made)
		}
		seen[file], seen[made] = true, true
	}
	modes := s.sh(t, "cd %s; stat -c '%%a %%F' * | sort -u", dir)
	if modes != "600 regular empty file\n700 directory" && modes != "600 regular file\n700 directory" {
		t.Errorf("modes: %q", modes)
	}
	_, err := files.CreateTemp(ctx, dir+"/none", "")
	wantError(t, "in no directory", err, fs.ErrNotExist)
	_, err = files.CreateTemp(ctx, dir, "../x-*")
	wantError(t, "elsewhere", err, client.ErrInvalidRequest)
	inTmp, err := files.CreateTemp(ctx, "", "")
	must(t, err)
	defer func() { must(t, files.Remove(ctx, inTmp)) }()
	if path.Dir(inTmp) != "/tmp" {
		t.Errorf("the default is %s", inTmp)
	}
}
