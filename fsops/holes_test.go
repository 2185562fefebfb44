//go:build linux

package fsops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// needHoles skips a test where the file system of dir keeps no holes.
func needHoles(t testing.TB, dir string) {
	t.Helper()
	path := filepath.Join(dir, "probe")
	mustWrite(t, path, "")
	defer os.Remove(path)
	must(t, os.Truncate(path, mib))
	if statOf(t, path).Blocks != 0 {
		t.Skip("SKIP: the file system keeps no holes")
	}
}

func putHole(t testing.TB, w *Writer, n int64) {
	t.Helper()
	if err := w.WriteHole(n); err != nil {
		t.Fatal(err)
	}
}

// wantStored checks how much of a file is stored.
func wantStored(t testing.TB, path string, most int64) {
	t.Helper()
	if stored := statOf(t, path).Blocks * 512; stored > most {
		t.Errorf("%s takes %d bytes, more than %d", path, stored, most)
	}
}

func TestWriteHoleInEveryMode(t *testing.T) {
	f, dir := ownFS(t)
	old := strings.Repeat("x", 3*mib)
	for _, test := range []struct {
		opts   WriteOptions
		before string // what of the old file stays in front
		behind string // and behind
		sparse bool
	}{
		{WriteOptions{Size: 2*mib + 6, Holes: true}, "", "", true},
		{WriteOptions{Mode: WriteTruncate}, "", "", true},
		{WriteOptions{Mode: WriteInPlace, Offset: 5}, old[:5], old[:3*mib-(5+2*mib+6)], true},
		{WriteOptions{Mode: WriteInPlace, Offset: 2 * mib}, old[:2*mib], "", true},
		{WriteOptions{Mode: WriteAppend}, old, "", false},
	} {
		path := filepath.Join(dir, "f")
		mustWrite(t, path, old)
		test.opts.Checksum = SHA256
		w := begin(t, f, "f", test.opts)
		put(t, w, "abc")
		putHole(t, w, 0)
		putHole(t, w, mib)
		put(t, w, "xyz")
		putHole(t, w, mib)
		result := commit(t, w)
		written := "abc" + strings.Repeat("\x00", mib) + "xyz" + strings.Repeat("\x00", mib)
		wantContent(t, path, test.before+written+test.behind)
		if sum := sha256.Sum256([]byte(written)); !bytes.Equal(result.Sum, sum[:]) {
			t.Errorf("mode %v: another sum", test.opts.Mode)
		}
		if test.sparse {
			t.Run("stored", func(t *testing.T) {
				needHoles(t, dir)
				wantStored(t, path, int64(len(test.before)+len(test.behind))+256<<10)
			})
		}
	}
}

// What others append while a hole is made is not cut off.
func TestWriteHoleInPlaceCutsNothing(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "f")
	w := begin(t, f, "f", WriteOptions{Mode: WriteTruncate})
	put(t, w, "abc")
	must(t, os.WriteFile(path, []byte("abcdefghij"), 0o644))
	putHole(t, w, 4)
	commit(t, w)
	wantContent(t, path, "abc\x00\x00\x00\x00hij")
}

func TestWriteHoleIntoAFIFO(t *testing.T) {
	f, dir := ownFS(t)
	path := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(path, 0o600))
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	w := begin(t, f, "fifo", WriteOptions{AllowSpecial: true})
	putHole(t, w, 5)
	put(t, w, "x")
	commit(t, w)
	got := make([]byte, 6)
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "\x00\x00\x00\x00\x00x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWriteHoleThatCannotBe(t *testing.T) {
	f, dir := ownFS(t)
	for _, mode := range []WriteMode{WriteAtomic, WriteTruncate} {
		w := begin(t, f, "f", WriteOptions{Mode: mode, Size: 100, Holes: true})
		put(t, w, "abc")
		wantErrno(t, w.WriteHole(-1), "f", syscall.EINVAL)
		wantErrno(t, w.WriteHole(math.MaxInt64-2), "f", syscall.EINVAL)
		var size *SizeError
		if err := w.WriteHole(98); !errors.As(err, &size) || size.Want != 100 || size.Got != 101 {
			t.Errorf("beyond the size: %v", err)
		}
		putHole(t, w, 97) // nothing of that has changed anything
		if info := commit(t, w).Info; info.Size != 100 {
			t.Errorf("%d bytes", info.Size)
		}
		if err := w.WriteHole(1); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after Commit: %v", err)
		}
	}
	w := begin(t, f, "f", WriteOptions{})
	put(t, w, "abc")
	err := w.WriteHole(math.MaxInt64 - 3) // some file systems can
	var we *WriteError
	if err != nil && (!errors.As(err, &we) || we.Written != 3 || !errors.Is(w.WriteHole(1), err)) {
		t.Errorf("the largest: %v", err)
	}
	must(t, w.Abort())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

// A SHA-256 of very many zeros takes very long, but not longer than it is wanted.
func TestWriteHoleEnds(t *testing.T) {
	f, dir := ownFS(t)
	for _, mode := range []WriteMode{WriteAtomic, WriteTruncate} {
		ctx, cancel := context.WithCancel(bg())
		w, err := f.NewWriter(ctx, "f", WriteOptions{Mode: mode, Checksum: SHA256})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- w.WriteHole(8 << 40) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, unix.EFBIG) {
			t.Error(err)
		}
		if _, err := w.Commit(bg(), nil); err == nil {
			t.Error("it was committed with half a sum")
		}
		os.Remove(filepath.Join(dir, "f"))
	}
	if left := partials(t, dir); left != nil {
		t.Errorf("left over: %q", left)
	}
}

// A file that is larger than the disk but for its holes can be written.
func TestWriteHoleReservesNothing(t *testing.T) {
	f, dir := ownFS(t)
	needHoles(t, dir)
	const size = 8 << 40 // ext4 takes no more than 16 TiB
	w := begin(t, f, "f", WriteOptions{Size: size, Holes: true, Checksum: CRC32C})
	put(t, w, "abc")
	if err := w.WriteHole(size - 6); errors.Is(err, unix.EFBIG) {
		must(t, w.Abort())
		t.Skip("SKIP: no files of 8 TiB here")
	} else if err != nil {
		t.Fatal(err)
	}
	put(t, w, "xyz")
	if info := commit(t, w).Info; info.Size != size || info.Blocks > 128 {
		t.Errorf("%d bytes in %d blocks", info.Size, info.Blocks)
	}
}

// What was left in a hole, or behind one, goes on there, and its sum is right.
func TestResumeAmongHoles(t *testing.T) {
	f, dir := ownFS(t)
	want := "abc" + strings.Repeat("\x00", 4*mib) + "xyz"
	for _, stop := range []int64{2, 3, 4, 2 * mib, 4*mib + 3, 4*mib + 4} {
		opts := WriteOptions{ResumeID: "id", Checksum: SHA256, Holes: true, Size: int64(len(want))}
		w := begin(t, f, "f", opts)
		put(t, w, want[:min(stop, 3)])
		putHole(t, w, max(0, min(stop-3, 4*mib)))
		put(t, w, want[3+4*mib:][:max(0, stop-3-4*mib)])
		must(t, w.Abort())
		if size, _, err := f.StatPartial(bg(), "f", "id"); err != nil || size != stop {
			t.Errorf("%d are left of %d, %v", size, stop, err)
		}
		for _, at := range []int64{stop, stop - 1} {
			opts.ResumeAt = &at
			w = begin(t, f, "f", opts)
			if w.Offset() != at {
				t.Errorf("goes on at %d, not %d", w.Offset(), at)
			}
			if at == stop {
				must(t, w.Abort())
				continue
			}
			put(t, w, want[at:])
			if sum := sha256.Sum256([]byte(want)); !bytes.Equal(commit(t, w).Sum, sum[:]) {
				t.Errorf("stopped at %d: another sum", stop)
			}
		}
		wantContent(t, filepath.Join(dir, "f"), want)
	}
}

// FuzzWriteHole compares a Writer with a byte slice.
func FuzzWriteHole(f *testing.F) {
	f.Add(uint8(0), []byte{3, 0x80 | 5, 1, 0x80 | 127})
	f.Add(uint8(3), []byte{0x80, 0, 0x81})
	f.Add(uint8(4), []byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, mode uint8, steps []byte) {
		fsys, dir := memFS(t)
		path := filepath.Join(dir, "f")
		old := strings.Repeat("old", 20000)
		mustWrite(t, path, old)
		opts := WriteOptions{Mode: WriteMode(mode % 5), Checksum: CRC32C, Holes: true}
		if opts.Mode == WriteExclusive {
			opts.Mode = WriteAtomic
		}
		if opts.Mode == WriteInPlace {
			opts.Offset = 777
		}
		w := begin(t, fsys, "f", opts)
		var model []byte
		for i, step := range steps[:min(len(steps), 40)] {
			if step&0x80 != 0 {
				n := int(step&0x7f) * 1001
				putHole(t, w, int64(n))
				model = append(model, make([]byte, n)...)
				continue
			}
			data := bytes.Repeat([]byte{byte(i + 1)}, int(step)*73)
			put(t, w, string(data))
			model = append(model, data...)
		}
		result := commit(t, w)
		want := string(model)
		switch opts.Mode {
		case WriteAppend:
			want = old + want
		case WriteInPlace:
			want = old[:777] + want + old[min(777+len(want), len(old)):]
		}
		wantContent(t, path, want)
		h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		h.Write(model)
		if !bytes.Equal(result.Sum, h.Sum(nil)) {
			t.Error("another sum")
		}
	})
}

// pieces reads with SkipHole: how long the holes are, and what is in between.
// Before each of its steps, seen is told how many there were.
func pieces(t *testing.T, r *Reader, seen func(step int)) (lengths []int64, content string) {
	t.Helper()
	buf := make([]byte, 2*mib)
	for step := 0; ; step++ {
		if seen != nil {
			seen(step)
		}
		hole, data := r.SkipHole()
		if hole > 0 {
			lengths = append(lengths, -hole)
			content += strings.Repeat("\x00", int(hole))
		}
		n, err := io.ReadAtLeast(r, buf[:min(data, int64(len(buf)))], 1)
		if n > 0 {
			lengths = append(lengths, int64(n))
			content += string(buf[:n])
		}
		if err == io.EOF {
			return lengths, content
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// holed makes a file of 1 MiB in a hole of 4 MiB, and returns its content.
func holed(t *testing.T, path string) string {
	t.Helper()
	needHoles(t, filepath.Dir(path))
	mustWrite(t, path, "")
	must(t, os.Truncate(path, 4*mib))
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(bytes.Repeat([]byte("x"), mib), mib); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func open(t *testing.T, f *FS, path string, opts ReadOptions) *Reader {
	t.Helper()
	r, err := f.OpenRead(bg(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestSkipHole(t *testing.T) {
	f, dir := ownFS(t)
	content := holed(t, filepath.Join(dir, "f"))
	for _, test := range []struct {
		opts       ReadOptions
		want       []int64 // negative ones are holes
		begin, end int
	}{
		{ReadOptions{}, []int64{-mib, mib, -2 * mib}, 0, 4 * mib},
		{ReadOptions{Offset: 5}, []int64{5 - mib, mib, -2 * mib}, 5, 4 * mib},
		{ReadOptions{Offset: mib + 5}, []int64{mib - 5, -2 * mib}, mib + 5, 4 * mib},
		{ReadOptions{Offset: -5}, []int64{-5}, 4*mib - 5, 4 * mib},
		{ReadOptions{Length: 7}, []int64{-7}, 0, 7},
		{ReadOptions{Length: mib + 7}, []int64{-mib, 7}, 0, mib + 7},
		{ReadOptions{Offset: 2*mib - 1, Length: 3}, []int64{1, -2}, 2*mib - 1, 2*mib + 2},
		{ReadOptions{Length: math.MaxInt64}, []int64{-mib, mib, -2 * mib}, 0, 4 * mib},
		{ReadOptions{Offset: 9 * mib}, nil, 0, 0},
	} {
		got, read := pieces(t, open(t, f, "f", test.opts), nil)
		if len(got) != len(test.want) || read != content[test.begin:test.end] {
			t.Errorf("%+v: %v, want %v", test.opts, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%+v: %v, want %v", test.opts, got, test.want)
			}
		}
	}
}

func TestSkipHoleWhereThereIsNone(t *testing.T) {
	f, dir := ownFS(t)
	mustWrite(t, filepath.Join(dir, "dense"), strings.Repeat("x", mib))
	mustWrite(t, filepath.Join(dir, "small"), "x")
	must(t, os.Truncate(filepath.Join(dir, "small"), 1000))
	for _, path := range []string{"dense", "small", "/proc/self/status", "/dev/null"} {
		r := open(t, f, path, ReadOptions{AllowSpecial: true})
		if hole, data := r.SkipHole(); hole != 0 || data != math.MaxInt64 {
			t.Errorf("%s: hole of %d, data of %d", path, hole, data)
		}
	}
	must(t, os.Truncate(filepath.Join(dir, "small"), mib))
	if hole, _ := open(t, f, "small", ReadOptions{Follow: true}).SkipHole(); hole != 0 {
		t.Errorf("in what is followed: a hole of %d", hole)
	}
	r := open(t, f, "small", ReadOptions{})
	must(t, r.Close())
	if hole, _ := r.SkipHole(); hole != 0 {
		t.Errorf("in what is closed: a hole of %d", hole)
	}
}

// Whatever becomes of the file meanwhile, what is read is what it had at some
// moment: no data is taken for a hole.
func TestSkipHoleOfAFileThatChanges(t *testing.T) {
	for name, change := range map[string]struct {
		change func(path string) error
		want   func(old string) string
	}{
		"filled": {
			func(path string) error { return writeAt(path, strings.Repeat("y", mib), 3*mib) },
			func(old string) string { return old[:3*mib] + strings.Repeat("y", mib) },
		},
		"cut": {
			func(path string) error { return os.Truncate(path, 3*mib) },
			func(old string) string { return old[:3*mib] },
		},
		"cut in what was read": {
			func(path string) error { return os.Truncate(path, 5) },
			func(old string) string { return old[:2*mib] },
		},
		"grown": {
			func(path string) error { return writeAt(path, "new", 4*mib) },
			func(old string) string { return old + "new" },
		},
		"grown far behind": {
			func(path string) error { return writeAt(path, "new", 5*mib) },
			func(old string) string { return old + strings.Repeat("\x00", mib) + "new" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := ownFS(t)
			path := filepath.Join(dir, "f")
			old := holed(t, path)
			_, got := pieces(t, open(t, f, "f", ReadOptions{}), func(step int) {
				if step == 1 { // the first hole and the data are read
					must(t, change.change(path))
				}
			})
			if want := change.want(old); got != want {
				t.Errorf("%d bytes, want %d, or they are others", len(got), len(want))
			}
		})
	}
}

func writeAt(path, text string, offset int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(text), offset)
	return errors.Join(err, file.Close())
}
