package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/guestd/guestd/client"
)

// files is about looking at files and reading them.
func (s *suite) files(t *testing.T) {
	t.Run("stat", s.stat)
	t.Run("types", s.fileTypes)
	t.Run("statfs", s.statfs)
	t.Run("ranges", s.readRanges)
	t.Run("follow", s.follow)
	t.Run("proc", s.readProc)
	t.Run("FIFO and device", s.readSpecial)
	t.Run("names", s.fileNames)
	s.listing(t)
	s.fileOps(t)
	s.fileUsers(t)
}

// put makes a file in the guest.
func (s *suite) put(t *testing.T, path, content string) {
	t.Helper()
	if _, err := s.client.Files().WriteBytes(s.context(t), path, []byte(content), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// memory is a directory for thousands of files, on no disk where that can be
// had: there what else the machine does would decide how long it takes.
func (s *suite) memory(t *testing.T, options string) string {
	t.Helper()
	dir := s.path(t, "memory")
	s.sh(t, "mkdir %s", dir)
	if s.target.Mounts {
		s.sh(t, "mount -t tmpfs -o mode=777%s tmpfs %s", options, dir)
		t.Cleanup(func() { s.sh(t, "umount -l %s", dir) })
	}
	return dir
}

// get reads one.
func (s *suite) get(t *testing.T, path string) string {
	t.Helper()
	content, err := s.client.Files().ReadFile(s.context(t), path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// names lists a directory, hidden files too, sorted.
func (s *suite) names(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for info, err := range s.client.Files().ReadDir(s.context(t), dir, client.ReadDirOptions{NamesOnly: true}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name())
	}
	slices.Sort(names)
	return names
}

// must fails the test at once.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// closing is for what has to be closed without complaint.
func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error("close:", err)
	}
}

// wantError checks that an error is everything that it has to be.
func wantError(t *testing.T, what string, err error, targets ...error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %v", what, targets)
		return
	}
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("%s: %v (%T), which is not %v", what, err, err, target)
		}
	}
}

// noise is n bytes in which nothing repeats.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// scale is the large number, or on a slow machine the small one.
func (s *suite) scale(large, small int) int {
	if s.target.Slow {
		return small
	}
	return large
}

// statLine is what stat -c '%s %a %u %g %h %i %X %Y %Z %b*%B %U %G' would say.
func statLine(i *client.FileInfo) string {
	name := func(name string) string {
		if name == "" {
			return "UNKNOWN"
		}
		return name
	}
	mode := uint32(i.Mode().Perm())
	for bit, wire := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if i.Mode()&bit != 0 {
			mode |= wire
		}
	}
	return fmt.Sprintf("%d %o %d %d %d %d %d %d %d %d %s %s", i.Size(), mode, i.UID(), i.GID(), i.Links(), i.Inode(),
		i.AccessTime().Unix(), i.ModTime().Unix(), i.ChangeTime().Unix(), i.Allocated(), name(i.Owner()), name(i.Group()))
}

// guestStat is the same by the guest's own stat.
func (s *suite) guestStat(t *testing.T, path string) string {
	t.Helper()
	fields := strings.Fields(s.sh(t, "stat -c '%%s %%a %%u %%g %%h %%i %%X %%Y %%Z %%b %%B %%U %%G' '%s'", path))
	if len(fields) != 13 {
		t.Fatalf("stat says %q", fields)
	}
	blocks, _ := strconv.Atoi(fields[9])
	size, _ := strconv.Atoi(fields[10])
	fields[9] = strconv.Itoa(blocks * size)
	return strings.Join(slices.Delete(fields, 10, 11), " ")
}

func (s *suite) stat(t *testing.T) {
	file, link, dir := s.path(t, "file"), s.path(t, "link"), s.path(t, "dir")
	s.sh(t, "printf 12345 >%s; chmod 4751 %s; ln %s %s-2; ln -s file %s; mkdir %s; chmod 1770 %s", file, file, file, file, link, dir, dir)
	for _, path := range []string{file, dir, "/", "/dev/null", "/proc/version"} {
		info, err := s.client.Files().Stat(s.context(t), path)
		must(t, err)
		want := s.guestStat(t, path)
		if got := statLine(info); path != "/proc/version" && got != want {
			t.Errorf("%s: %s, the guest's stat says %s", path, got, want)
		}
		if info.Path() != path || info.Name() != path[strings.LastIndexByte(path, '/')+1:] && path != "/" {
			t.Errorf("%s: path %q, name %q", path, info.Path(), info.Name())
		}
	}
	followed, err := s.client.Files().Stat(s.context(t), link)
	must(t, err)
	itself, err := s.client.Files().Lstat(s.context(t), link)
	must(t, err)
	if got, want := statLine(itself), s.guestStat(t, link); got != want {
		t.Errorf("link: %s, the guest's stat says %s", got, want)
	}
	if followed.Size() != 5 || followed.Type() != 0 || followed.Target() != "" || followed.Links() != 2 {
		t.Errorf("stat of a link: %v, %d links", followed, followed.Links())
	}
	if itself.Type() != fs.ModeSymlink || itself.Target() != "file" || itself.Size() != 4 {
		t.Errorf("lstat of a link: %v to %q", itself, itself.Target())
	}
}

func (s *suite) fileTypes(t *testing.T) {
	dir := s.path(t, "") + "/"
	s.sh(t, "cd %s; : >regular; mkdir directory; ln -s nowhere symlink; mkfifo fifo", dir)
	for path, want := range map[string]fs.FileMode{
		dir + "regular":   0,
		dir + "directory": fs.ModeDir,
		dir + "symlink":   fs.ModeSymlink,
		dir + "fifo":      fs.ModeNamedPipe,
		"/dev/null":       fs.ModeDevice | fs.ModeCharDevice,
	} {
		info, err := s.client.Files().Lstat(s.context(t), path)
		if err != nil || info.Mode().Type() != want {
			t.Errorf("%s: %v, %v; want %v", path, info, err, want)
		}
	}
}

func (s *suite) statfs(t *testing.T) {
	for _, path := range []string{s.dir, "/proc"} {
		got, err := s.client.Files().StatFilesystem(s.context(t), path)
		must(t, err)
		var block, blocks, longest, kind uint64
		if _, err := fmt.Sscanf(s.sh(t, "stat -f -c '%%S %%b %%l %%t' %s", path), "%d %d %d %x", &block, &blocks, &longest, &kind); err != nil {
			t.Fatal(err)
		}
		if got.TotalBytes != block*blocks || got.LongestName != longest || got.Type != kind {
			t.Errorf("%s: %+v, the guest's stat says %d*%d bytes, names of %d, type %x", path, got, block, blocks, longest, kind)
		}
		if got.FreeBytes > got.TotalBytes || got.AvailableBytes > got.FreeBytes || got.FreeInodes > got.TotalInodes || got.MountedReadOnly && path != "/proc" {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func (s *suite) readRanges(t *testing.T) {
	content := noise(700_001)
	file := s.path(t, "file")
	s.put(t, file, string(content))
	size := int64(len(content))
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, 0, 0, size},
		{0, 1, 0, 1},
		{1, 262_144, 1, 262_145},
		{262_143, 2, 262_143, 262_145},
		{size - 1, 100, size - 1, size},
		{size, 0, size, size},
		{size + 1000, 10, size, size},
		{-1, 0, size - 1, size},
		{-500_000, 3, size - 500_000, size - 499_997},
		{-size - 5, 0, 0, size},
	} {
		for _, sum := range []client.Checksum{client.CRC32C, client.SHA256, client.NoChecksum} {
			r, err := s.client.Files().Open(s.context(t), file, client.ReadOptions{Offset: c.offset, Length: c.length, Checksum: sum})
			must(t, err)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, content[c.from:c.to]) {
				t.Errorf("from %d, %d bytes: %d came, %v; want %d", c.offset, c.length, len(got), err, c.to-c.from)
			}
			if r.Info().Size() != size {
				t.Errorf("info says %d bytes", r.Info().Size())
			}
			must(t, r.Close())
		}
	}
}

// follow goes where tail -F would.
func (s *suite) follow(t *testing.T) {
	file := s.path(t, "log")
	s.put(t, file, "first line\n")
	ctx, cancel := context.WithCancel(s.context(t))
	defer cancel()
	r, err := s.client.Files().Open(ctx, file, client.ReadOptions{Follow: true})
	must(t, err)
	defer closing(t, r)
	expect := func(want string, restarts int) {
		t.Helper()
		got := make([]byte, len(want))
		if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got[:n], err, want)
		}
		if r.Restarts() != restarts {
			t.Errorf("%d restarts before %q, want %d", r.Restarts(), want, restarts)
		}
	}
	expect("first line\n", 0)
	s.sh(t, "echo appended >>%s", file)
	expect("appended\n", 0)
	s.sh(t, "echo cut >%s", file)
	expect("cut\n", 1)
	s.sh(t, "echo other >%s.new; mv %s.new %s", file, file, file)
	expect("other\n", 2)
	s.sh(t, "echo more >>%s", file)
	expect("more\n", 2)
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled reader: %v", err)
	}
}

// readProc: files in /proc have no size, but content.
func (s *suite) readProc(t *testing.T) {
	want := s.sh(t, "cat /proc/version") + "\n"
	if got := s.get(t, "/proc/version"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r, err := s.client.Files().Open(s.context(t), "/proc/version", client.ReadOptions{Offset: 6, Length: 7})
	must(t, err)
	defer closing(t, r)
	got, err := io.ReadAll(r)
	if string(got) != want[6:13] || err != nil || r.Info().Size() != 0 {
		t.Errorf("%q, %v of %d bytes", got, err, r.Info().Size())
	}
	// Many reads long, and whole: it begins and ends with something known.
	if maps := s.get(t, "/proc/self/smaps"); !strings.HasSuffix(maps, "\n") || !strings.Contains(maps, "[vsyscall]") && !strings.Contains(maps, "[stack]") {
		t.Errorf("smaps: %d bytes", len(maps))
	}
}

func (s *suite) readSpecial(t *testing.T) {
	fifo := s.path(t, "fifo")
	s.sh(t, "mkfifo %s", fifo)
	ctx := s.context(t)
	for _, path := range []string{fifo, "/dev/zero"} {
		_, err := s.client.Files().Open(ctx, path, client.ReadOptions{})
		wantError(t, "read "+path, err, client.ErrWrongType)
		_, err = s.client.Files().OpenFile(ctx, path, client.OpenOptions{Read: true})
		wantError(t, "open "+path, err, client.ErrWrongType)
	}
	for _, mode := range []client.WriteMode{client.Atomic, client.Overwrite, client.Append, client.Update} {
		_, err := s.client.Files().WriteBytes(ctx, fifo, []byte("x"), client.WriteOptions{Mode: mode})
		wantError(t, "write "+fifo, err, client.ErrWrongType)
	}
	r, err := s.client.Files().Open(ctx, "/dev/zero", client.ReadOptions{AllowSpecial: true, Length: 300_000})
	must(t, err)
	defer closing(t, r)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, make([]byte, 300_000)) {
		t.Errorf("/dev/zero: %d bytes, %v", len(got), err)
	}
	s.readFIFO(t, fifo)
}

// readFIFO waits for a writer, gives up, and gets one.
func (s *suite) readFIFO(t *testing.T, fifo string) {
	ctx, cancel := context.WithCancel(s.context(t))
	waiting, err := s.client.Files().Open(ctx, fifo, client.ReadOptions{AllowSpecial: true})
	must(t, err)
	defer closing(t, waiting)
	ended := make(chan error, 1)
	go func() {
		_, err := waiting.Read(make([]byte, 1))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled reader of a FIFO: %v", err)
	}
	r, err := s.client.Files().Open(s.context(t), fifo, client.ReadOptions{AllowSpecial: true})
	must(t, err)
	defer closing(t, r)
	process, err := s.client.Start(s.context(t), client.Spec{Args: []string{"/bin/sh", "-c", "echo through the pipe >" + fifo}})
	must(t, err)
	if got, err := io.ReadAll(r); string(got) != "through the pipe\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	s.exit(t, process)
}

// fileNames: names are bytes, and come through as they are.
func (s *suite) fileNames(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")+"/"
	all := []string{"caf\xe9", "\xff\xfe", "line\nend", " blank ", "-rf", "*", "\\", "ä", "%s", strings.Repeat("n", 255)}
	slices.Sort(all)
	for _, name := range all {
		s.put(t, dir+name, name)
	}
	if got := s.names(t, dir); !slices.Equal(got, all) {
		t.Errorf("%q\nwant %q", got, all)
	}
	for _, name := range all {
		if got := s.get(t, dir+name); got != name {
			t.Errorf("%q holds %q", name, got)
		}
		if info, err := files.Stat(ctx, dir+name); err != nil || info.Name() != name || info.Path() != dir+name {
			t.Errorf("stat %q: %v, %v", name, info, err)
		}
	}
	if got := s.sh(t, "cd %s; cat \"$(printf 'caf\\351')\"", dir); got != "caf\xe9" {
		t.Errorf("the guest reads %q", got)
	}
	must(t, files.Rename(ctx, dir+"caf\xe9", dir+"caf\xe8", client.RenameOptions{}))
	must(t, files.Symlink(ctx, "caf\xe8", dir+"link\xe8"))
	if target, err := files.Readlink(ctx, dir+"link\xe8"); target != "caf\xe8" || err != nil {
		t.Errorf("readlink: %q, %v", target, err)
	}
	if real, err := files.RealPath(ctx, dir+"link\xe8", false); real != dir+"caf\xe8" || err != nil {
		t.Errorf("realpath: %q, %v", real, err)
	}
	found := 0
	for info, err := range files.Walk(ctx, dir, client.WalkOptions{}) {
		must(t, err)
		if info.Path() == "caf\xe8" || info.Path() == "link\xe8" && info.Target() == "caf\xe8" {
			found++
		}
	}
	if found != 2 {
		t.Errorf("walk finds %d of 2", found)
	}
	must(t, files.Remove(ctx, dir+"caf\xe8"))
	_, err := files.Stat(ctx, dir+"caf\xe8")
	wantError(t, "removed", err, fs.ErrNotExist)
}
