//go:build linux

package fsops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// partials lists the temporary files in dir.
func partials(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if isPartialName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func begin(t testing.TB, f *FS, path string, opts WriteOptions) *Writer {
	t.Helper()
	w, err := f.NewWriter(bg(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func put(t testing.TB, w *Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

func commit(t testing.TB, w *Writer) *WriteResult {
	t.Helper()
	result, err := w.Commit(bg(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestWriteAtomic(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, rawName)
	w := begin(t, f, rawName, WriteOptions{Sync: true})
	defer func() { _ = w.Abort() }()
	put(t, w, "hel")
	put(t, w, "lo")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before Commit: %v", err)
	}
	result := commit(t, w)
	wantContent(t, path, "hello")
	if result.Info.Name != rawName || result.Info.Size != 5 || result.Info.Perm() != 0o644 || result.Sum != nil || result.Info.Nlink != 1 {
		t.Errorf("%+v", result.Info)
	}
	for _, err := range []error{func() error { _, err := w.Write(nil); return err }(), func() error { _, err := w.Commit(bg(), nil); return err }()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Commit: %v", err)
		}
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	wantContent(t, path, "hello")

	// Replacing keeps the mode but not setuid; the old file lives on elsewhere.
	if err := errors.Join(os.Chmod(path, 0o751|fs.ModeSetuid), os.Link(path, path+"2")); err != nil {
		t.Fatal(err)
	}
	w = begin(t, f, rawName, WriteOptions{})
	put(t, w, "new")
	if result := commit(t, w); result.Info.Perm() != 0o751 {
		t.Errorf("mode %o", result.Info.Perm())
	}
	wantContent(t, path, "new")
	wantContent(t, path+"2", "hello")

	when := time.Unix(99, 101)
	w = begin(t, f, rawName, WriteOptions{Perm: ptr(uint32(0o4700)), Mtime: &when})
	if result := commit(t, w); result.Info.Perm() != 0o4700 || !result.Info.Mtime.Equal(when) || result.Info.Size != 0 {
		t.Errorf("%+v", result.Info)
	}
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestWriteOwners(t *testing.T) {
	needRoot(t)
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "old")
	if err := os.Chown(filepath.Join(dir, "x"), 61000, 61001); err != nil {
		t.Fatal(err)
	}
	if info := commit(t, begin(t, f, "x", WriteOptions{})).Info; info.UID != 61000 || info.GID != 61001 {
		t.Errorf("not kept: %d:%d", info.UID, info.GID)
	}
	if info := commit(t, begin(t, f, "x", WriteOptions{UID: ptr(uint32(0)), Perm: ptr(uint32(0o4755))})).Info; info.UID != 0 || info.GID != 61001 || info.Perm() != 0o4755 {
		t.Errorf("not set: %d:%d %o", info.UID, info.GID, info.Perm())
	}

	user, dir := userFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "roots")
	if info := commit(t, begin(t, user, "x", WriteOptions{})).Info; info.UID != testIdentity.UID {
		t.Errorf("a user kept root as the owner: %d", info.UID)
	}
	w := begin(t, user, "x", WriteOptions{UID: ptr(uint32(0))})
	if _, err := w.Commit(bg(), nil); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a user gave a file to root: %v", err)
	}
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestWriteModes(t *testing.T) {
	f, dir := ownFS(t)
	for _, test := range []struct {
		old  string // "-" for none
		opts WriteOptions
		want string
	}{
		{"-", WriteOptions{Mode: WriteExclusive}, "new"},
		{"-", WriteOptions{Mode: WriteTruncate}, "new"},
		{"-", WriteOptions{Mode: WriteAppend}, "new"},
		{"-", WriteOptions{Mode: WriteInPlace, Offset: 2}, "\x00\x00new"},
		{"0123456789", WriteOptions{Mode: WriteTruncate, Size: 3}, "new"},
		{"0123456789", WriteOptions{Mode: WriteAppend, Size: 3}, "0123456789new"},
		{"0123456789", WriteOptions{Mode: WriteInPlace, Offset: 2, Size: 3}, "01new56789"},
	} {
		path := filepath.Join(dir, "x")
		os.Remove(path)
		if test.old != "-" {
			mustWrite(t, path, test.old)
		}
		before, _ := os.Lstat(path)
		w := begin(t, f, "x", test.opts)
		put(t, w, "new")
		info := commit(t, w).Info
		wantContent(t, path, test.want)
		if after, err := os.Lstat(path); err != nil || before != nil && !os.SameFile(before, after) || info.Perm() != 0o644 {
			t.Errorf("%+v: replaced or wrong mode: %v", test.opts, err)
		}
	}
	_, err := f.NewWriter(bg(), "x", WriteOptions{Mode: WriteExclusive})
	wantErrno(t, err, "x", syscall.EEXIST)
	w := begin(t, f, "late", WriteOptions{Mode: WriteExclusive})
	mustWrite(t, filepath.Join(dir, "late"), "first")
	_, err = w.Commit(bg(), nil)
	wantErrno(t, err, "late", syscall.EEXIST)
	wantContent(t, filepath.Join(dir, "late"), "first")
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestWriteThroughLinks(t *testing.T) {
	f, dir := ownFS(t)
	makeTree(t, dir, "d/file", "link -> d/file", "chain -> ./link", "dangling -> d/new", "away -> none/x", "todir -> d", "slash -> d/y/")
	for name, real := range map[string]string{"link": "d/file", "chain": "d/file", "dangling": "d/new"} {
		w := begin(t, f, name, WriteOptions{})
		put(t, w, name)
		commit(t, w)
		wantContent(t, filepath.Join(dir, real), name)
		if statOf(t, filepath.Join(dir, name)).Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("%s is not a link any longer", name)
		}
	}
	for path, errno := range map[string]syscall.Errno{
		"away": syscall.ENOENT, "todir": syscall.EISDIR, "d": syscall.EISDIR, "d/": syscall.EISDIR, ".": syscall.EISDIR,
		"/": syscall.EISDIR, "slash": syscall.EISDIR, "d/file/x": syscall.ENOTDIR, "none/x": syscall.ENOENT, "": syscall.ENOENT,
	} {
		_, err := f.NewWriter(bg(), path, WriteOptions{})
		wantErrno(t, err, path, errno)
	}
	w := begin(t, f, "link", WriteOptions{NoFollow: true})
	put(t, w, "own")
	commit(t, w)
	if statOf(t, filepath.Join(dir, "link")).Mode&unix.S_IFMT != unix.S_IFREG {
		t.Error("the link was not replaced")
	}
	w = begin(t, f, "p/q/r", WriteOptions{MakeParents: true})
	commit(t, w)
	wantContent(t, filepath.Join(dir, "p/q/r"), "")
}

func TestWriteChecksums(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "x")
	mustWrite(t, path, "old")
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	sha := sha256.Sum256(data)
	crc := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	for algorithm, want := range map[Algorithm][]byte{SHA256: sha[:], CRC32C: crc} {
		write := func(opts WriteOptions) *Writer {
			opts.Checksum = algorithm
			w := begin(t, f, "x", opts)
			// Many buffers, some empty, some more than one call may have.
			var bufs [][]byte
			for rest := data; len(rest) > 0; {
				n := min(len(rest), rand.IntN(3000))
				bufs = append(bufs, rest[:n])
				rest = rest[n:]
			}
			kept := slices.Clone(bufs)
			if n, err := w.WriteBuffers(bufs); n != int64(len(data)) || err != nil {
				t.Fatal(n, err)
			}
			for i := range kept {
				if len(kept[i]) != len(bufs[i]) {
					t.Fatal("WriteBuffers changed its argument")
				}
			}
			return w
		}
		wrong := bytes.Clone(want)
		wrong[0] ^= 1
		_, err := write(WriteOptions{}).Commit(bg(), wrong)
		var sum *ChecksumError
		if !errors.Is(err, ErrChecksum) || !errors.As(err, &sum) || !bytes.Equal(sum.Got, want) || !bytes.Equal(sum.Want, wrong) {
			t.Errorf("%v: %v", algorithm, err)
		}
		_, err = write(WriteOptions{Sum: wrong, ResumeID: "id"}).Commit(bg(), nil)
		if !errors.Is(err, ErrChecksum) {
			t.Errorf("%v: %v", algorithm, err)
		}
		if left := partials(t, dir); left != nil {
			t.Errorf("kept although it is wrong: %q", left)
		}
		if algorithm == SHA256 {
			wantContent(t, path, "old")
		}
		result, err := write(WriteOptions{Sum: want, Size: int64(len(data))}).Commit(bg(), nil)
		if err != nil || !bytes.Equal(result.Sum, want) {
			t.Errorf("%v: %+v, %v", algorithm, result, err)
		}
		wantContent(t, path, string(data))
		mustWrite(t, path, "old")
	}
}

func TestWriteBadOptions(t *testing.T) {
	f, _ := ownFS(t)
	for _, opts := range []WriteOptions{
		{Mode: 99}, {Offset: 1}, {Mode: WriteInPlace, Offset: -1}, {Mode: WriteAppend, ResumeID: "x"},
		{Checksum: 99}, {Sum: []byte("x")}, {Checksum: SHA256, Sum: []byte("short")},
	} {
		_, err := f.NewWriter(bg(), "x", opts)
		wantErrno(t, err, "x", syscall.EINVAL)
	}
	w := begin(t, f, "x", WriteOptions{})
	if _, err := w.Commit(bg(), []byte("sum")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sum without an algorithm: %v", err)
	}
}

func TestWriteSize(t *testing.T) {
	f, dir := ownFS(t)
	for _, size := range []int64{1, 3} {
		w := begin(t, f, "x", WriteOptions{Size: size})
		put(t, w, "ab")
		_, err := w.Commit(bg(), nil)
		var se *SizeError
		if !errors.Is(err, ErrSize) || !errors.As(err, &se) || se.Want != size || se.Got != 2 {
			t.Errorf("%v", err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
	// A file that cannot fit fails at once.
	info, err := f.Statfs(bg(), ".")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.NewWriter(bg(), "x", WriteOptions{Size: int64(info.Size) * 2}); !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
		t.Errorf("twice the disk: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestAbort(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "x"), "old")
	w := begin(t, f, "x", WriteOptions{})
	put(t, w, "half of the n")
	for range 2 {
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}
	wantContent(t, filepath.Join(dir, "x"), "old")
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
	ctx, cancel := context.WithCancel(bg())
	w = begin(t, f, "x", WriteOptions{})
	cancel()
	if _, err := w.Commit(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	wantContent(t, filepath.Join(dir, "x"), "old")
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

func TestResume(t *testing.T) {
	for name, view := range map[string]func(testing.TB) (*FS, string){"own": ownFS, "user": userFS} {
		t.Run(name, func(t *testing.T) {
			f, dir := view(t)
			path := filepath.Join(dir, "x")
			data := strings.Repeat("0123456789", 50_000)
			sum := sha256.Sum256([]byte(data))
			opts := WriteOptions{ResumeID: "upload/../\x00 1", Checksum: SHA256, Size: int64(len(data)), Sum: sum[:]}
			w := begin(t, f, "x", opts)
			put(t, w, data[:123_456])
			if _, err := f.NewWriter(bg(), "x", opts); !errors.Is(err, ErrBusy) {
				t.Errorf("two at once: %v", err)
			}
			if err := w.Abort(); err != nil {
				t.Fatal(err)
			}
			if left := partials(t, dir); len(left) != 1 || statOf(t, filepath.Join(dir, left[0])).Size != 123_456 || statOf(t, filepath.Join(dir, left[0])).Mode&permMask != 0o600 {
				t.Fatalf("kept: %q", left)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("half a file: %v", err)
			}
			// Another id, and another target, know nothing of it.
			for target, id := range map[string]string{"x": "other", "y": opts.ResumeID} {
				other := begin(t, f, target, WriteOptions{ResumeID: id})
				if other.Offset() != 0 {
					t.Errorf("%s %q begins at %d", target, id, other.Offset())
				}
				other.opts.ResumeID = ""
				must(t, other.Abort())
			}
			w = begin(t, f, "x", opts)
			if w.Offset() != 123_456 {
				t.Fatalf("goes on at %d", w.Offset())
			}
			put(t, w, data[123_456:400_000])
			// Too early: it is kept as well.
			if _, err := w.Commit(bg(), nil); !errors.Is(err, ErrSize) {
				t.Errorf("too early: %v", err)
			}
			w = begin(t, f, "x", opts)
			put(t, w, data[w.Offset():])
			result := commit(t, w)
			if !bytes.Equal(result.Sum, sum[:]) {
				t.Error("wrong sum")
			}
			wantContent(t, path, data)
			if left := partials(t, dir); left != nil {
				t.Errorf("left over: %q", left)
			}
			// What is longer than the announced size was something else.
			w = begin(t, f, "x", WriteOptions{ResumeID: "z"})
			put(t, w, "too long")
			must(t, w.Abort())
			w = begin(t, f, "x", WriteOptions{ResumeID: "z", Size: 3})
			if w.Offset() != 0 {
				t.Errorf("goes on at %d", w.Offset())
			}
			put(t, w, "abc")
			commit(t, w)
			wantContent(t, path, "abc")
		})
	}
}

// A caller that has asked where to go on may have been told less than has
// arrived meanwhile, and must never be told more.
func TestResumeAt(t *testing.T) {
	f, dir := ownFS(t)
	w := begin(t, f, "x", WriteOptions{ResumeID: "id"})
	put(t, w, "0123456789")
	must(t, w.Abort())
	opts := WriteOptions{ResumeID: "id", ResumeAt: ptr(int64(11)), Checksum: SHA256}
	_, err := f.NewWriter(bg(), "x", opts)
	if !errors.Is(err, ErrResume) {
		t.Errorf("behind the end: %v", err)
	}
	opts.ResumeAt = ptr(int64(4))
	w = begin(t, f, "x", opts)
	if w.Offset() != 4 {
		t.Errorf("goes on at %d", w.Offset())
	}
	put(t, w, "abc")
	result := commit(t, w)
	wantContent(t, filepath.Join(dir, "x"), "0123abc")
	if sum := sha256.Sum256([]byte("0123abc")); !bytes.Equal(result.Sum, sum[:]) {
		t.Errorf("sum %x", result.Sum)
	}
}

// In a directory that others may write to, a partial file of theirs must not be
// gone on with.
func TestResumeOfForeignPartial(t *testing.T) {
	f, dir := userFS(t)
	name := partialName("x", "id")
	mustWrite(t, filepath.Join(dir, name), "evil")
	if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := f.NewWriter(bg(), "x", WriteOptions{ResumeID: "id"})
	wantErrno(t, err, "x", syscall.EPERM)
	os.Remove(filepath.Join(dir, name))
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	_, err = f.NewWriter(bg(), "x", WriteOptions{ResumeID: "id"})
	wantErrno(t, err, "x", syscall.ELOOP)
}

func TestStalePartials(t *testing.T) {
	f, dir := ownFS(t)
	f.sys.cfg.PartialMaxAge = time.Hour
	makeTree(t, dir, "real/", "link -> real/x")
	leave := func(id string) string {
		w := begin(t, f, "link", WriteOptions{ResumeID: id})
		put(t, w, "data")
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "real", partialName("x", id))
	}
	old, older, young := leave("old"), leave("older"), leave("young")
	past, future := time.Now().Add(-2*time.Hour), time.Now().Add(2*time.Hour) // as before the clock was set back
	f.sys.partials.left[0].at, f.sys.partials.left[1].at = past, past
	if err := errors.Join(os.Chtimes(old, past, past), os.Chtimes(older, future, future)); err != nil {
		t.Fatal(err)
	}
	must(t, begin(t, f, "other", WriteOptions{}).Abort())
	for _, path := range []string{old, older} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if _, err := os.Lstat(young); err != nil {
		t.Error(err)
	}
	// One that this process knows nothing of, one in use, and a stranger.
	inUse := begin(t, f, "real/x", WriteOptions{})
	defer func() { _ = inUse.Abort() }()
	stranger := filepath.Join(dir, "real/.guestd-stranger.part")
	mustWrite(t, stranger, "")
	for _, path := range []string{young, filepath.Join(dir, "real", inUse.temp), stranger} {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.CleanPartials(bg(), "real", 0); n != 1 || err != nil {
		t.Errorf("cleaned %d, %v", n, err)
	}
	if left := partials(t, filepath.Join(dir, "real")); !slices.Equal(left, []string{inUse.temp}) {
		t.Errorf("left: %q", left)
	}
	if _, err := os.Lstat(stranger); err != nil {
		t.Error(err)
	}
}

// smallDisk mounts a tmpfs of size bytes.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	needRoot(t)
	dir := publicDir(t)
	mount := filepath.Join(dir, "disk")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "mode=777,size="+size); err != nil {
		t.Skipf("SKIP: cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mount
}

func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, "1m")
	f, err := newSystem(t).As(testIdentity, disk)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Repeat("o", 100<<10)
	mustWrite(t, filepath.Join(disk, "x"), old)
	chunk := make([]byte, 64<<10)
	for _, opts := range []WriteOptions{{}, {ResumeID: "id"}, {Checksum: SHA256}} {
		w := begin(t, f, "x", opts)
		written := int64(0)
		for err = nil; err == nil; {
			var n int
			n, err = w.Write(chunk)
			written += int64(n)
		}
		var we *WriteError
		if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &we) || we.Written != written || written < 512<<10 || we.Path != "x" {
			t.Errorf("%v", err)
		}
		if _, again := w.Write(chunk); !errors.Is(again, syscall.ENOSPC) {
			t.Errorf("another write: %v", again)
		}
		if _, again := w.Commit(bg(), nil); !errors.Is(again, syscall.ENOSPC) {
			t.Errorf("Commit: %v", again)
		}
		wantContent(t, filepath.Join(disk, "x"), old)
		if left := partials(t, disk); (len(left) == 1) != (opts.ResumeID != "") {
			t.Errorf("%+v: left %q", opts, left)
		}
		for _, name := range partials(t, disk) {
			if size := statOf(t, filepath.Join(disk, name)).Size; size != written {
				t.Errorf("kept %d bytes of %d", size, written)
			}
			os.Remove(filepath.Join(disk, name))
		}
	}
	// With the size known, before the first byte.
	_, err = f.NewWriter(bg(), "x", WriteOptions{Size: 10 << 20})
	var we *WriteError
	if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &we) || we.Written != 0 || we.Path != "x" {
		t.Errorf("size known: %v", err)
	}
	// The reservation is given back.
	w := begin(t, f, "y", WriteOptions{Size: 800 << 10, ResumeID: "id"})
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	must(t, begin(t, f, "z", WriteOptions{Size: 800 << 10}).Abort())

	result, err := f.Copy(bg(), "/dev/shm/../proc/self/exe", "copy", CopyOptions{})
	if err == nil {
		t.Errorf("copied through a link of /proc: %+v", result)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own, err := f.sys.Own(disk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Copy(bg(), exe, "x", CopyOptions{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("copy: %v", err)
	}
	wantContent(t, filepath.Join(disk, "x"), old)
	h, err := own.Open(bg(), "h", OpenOptions{Flags: unix.O_WRONLY | unix.O_CREAT})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	if n, err := h.Write(bg(), make([]byte, 2<<20)); !errors.Is(err, syscall.ENOSPC) || n < 512<<10 {
		t.Errorf("handle: %d, %v", n, err)
	}
}

func BenchmarkWriter(b *testing.B) {
	f, _ := memFS(b)
	chunk := make([]byte, 1<<20)
	const size = 256 << 20
	for name, opts := range map[string]WriteOptions{
		"plain": {}, "reserved": {Size: size}, "sha256": {Checksum: SHA256}, "crc32c": {Checksum: CRC32C},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				w := begin(b, f, "x", opts)
				for range size / len(chunk) {
					if _, err := w.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				commit(b, w)
			}
		})
	}
}
