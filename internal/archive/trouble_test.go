//go:build linux || darwin

package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A stream that is cut, at whatever block, leaves every file either as it was
// or as it is to be, says that it was cut, and leaves no temporary file.
func TestCutStream(t *testing.T) {
	src, dest := tempDir(t), tempDir(t)
	names := []string{"a", "b/c", "d", "z"}
	fresh := map[string]string{"a": "new a", "b/c": strings.Repeat("new c ", 200), "d": strings.Repeat("new d ", 60_000), "z": "new z"}
	for _, n := range names {
		writeFile(t, src+"/"+n, fresh[n])
		writeFile(t, dest+"/"+n, "old "+n)
	}
	writeFile(t, src+"/only new", "n")
	data, _ := pack(t, src+"/", PackOptions{Sort: true})
	end := len(data) - 2*blockSize
	for cut := 0; cut <= end; cut += blockSize {
		_, err := Unpack(t.Context(), bytes.NewReader(data[:cut]), dest, UnpackOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d of %d: error %v", cut, len(data), err)
		}
		for _, n := range names {
			got, err := os.ReadFile(dest + "/" + n)
			if err != nil || (string(got) != "old "+n && string(got) != fresh[n]) {
				t.Fatalf("cut at %d: %s is %.20q, %v", cut, n, got, err)
			}
		}
		noTemps(t, dest)
	}
	if got, err := os.ReadFile(dest + "/d"); err != nil || string(got) != fresh["d"] {
		t.Errorf("before the end marker d is %.20q, %v", got, err)
	}
	unpack(t, data[:end+blockSize], dest, UnpackOptions{})
}

func noTemps(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		if strings.Contains(path, ".unpack-") {
			t.Fatalf("left behind: %s", path)
		}
		return nil
	})
}

func TestMalformed(t *testing.T) {
	src := tempDir(t)
	writeFile(t, src+"/f", "content")
	good, _ := pack(t, src+"/", PackOptions{})
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	sparse := func(size int64, text string) []byte {
		var e encoder
		h := header{kind: kindFile, name: "s", isSparse: true, realSize: 100, size: size}
		b, err := e.append(nil, &h)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, text...)
		return append(b, make([]byte, 4096)...)
	}
	tests := map[string][]byte{
		"text":                bytes.Repeat([]byte("no archive at all\n"), 100),
		"checksum":            change(func(b []byte) []byte { b[3]++; return b }),
		"huge meta":           fixChecksums(change(func(b []byte) []byte { copy(b[offSize:], "77777777777"); return b })),
		"negative size":       fixChecksums(change(func(b []byte) []byte { copy(b[offSize:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"); return b })),
		"bad octal":           fixChecksums(change(func(b []byte) []byte { copy(b[offSize:], "9"); return b })),
		"pax length":          change(func(b []byte) []byte { b[blockSize] = '9'; return b }),
		"pax no equals":       change(func(b []byte) []byte { b[bytes.IndexByte(b, '=')] = '-'; return b }),
		"trailing data":       append(bytes.Clone(good), make([]byte, 2<<20)...),
		"sparse no number":    sparse(512, "x"),
		"sparse count":        sparse(512, "99999999999999\n"),
		"sparse beyond end":   sparse(512+200, "1\n0\n200\n"),
		"sparse overlap":      sparse(512+20, "2\n0\n10\n5\n10\n"),
		"sparse sum":          sparse(512+99, "1\n0\n10\n"),
		"sparse map cut":      sparse(100, "1\n0\n10\n"),
		"sparse without end":  sparse(512, "1"),
		"link without target": fixChecksums(change(func(b []byte) []byte { b[1024+offType] = '2'; return b })),
		"absent name":         fixChecksums(change(func(b []byte) []byte { clear(b[1024 : 1024+offMode]); return b })),
	}
	for name, data := range tests {
		_, err := Unpack(t.Context(), bytes.NewReader(data), tempDir(t), UnpackOptions{})
		if !errors.Is(err, ErrHeader) {
			t.Errorf("%s: error %v, want %v", name, err, ErrHeader)
		}
	}
}

func TestLimits(t *testing.T) {
	src := tempDir(t)
	for i := range 5 {
		writeFile(t, fmt.Sprintf("%s/%d", src, i), "12345")
	}
	data, _ := pack(t, src+"/", PackOptions{Sort: true})
	for _, tt := range []struct {
		limits Limits
		want   LimitError
		files  int64
	}{
		{Limits{MaxEntries: 3}, LimitError{"entries", 3}, 2}, // and the directory
		{Limits{MaxBytes: 12}, LimitError{"bytes", 12}, 2},
	} {
		sum, err := Unpack(t.Context(), bytes.NewReader(data), tempDir(t), UnpackOptions{Limits: tt.limits})
		var limit *LimitError
		if !errors.As(err, &limit) || *limit != tt.want || sum.Files != tt.files {
			t.Errorf("%+v: %v, %+v", tt.limits, err, sum)
		}
	}
	unpack(t, data, tempDir(t), UnpackOptions{Limits: Limits{MaxEntries: 6, MaxBytes: 25}})
}

func TestOverwrite(t *testing.T) {
	src := tempDir(t)
	writeFile(t, src+"/f", "new")
	writeFile(t, src+"/big", strings.Repeat("n", bufferSize+1))
	if err := os.Symlink("new", src+"/l"); err != nil {
		t.Fatal(err)
	}
	data, _ := pack(t, src+"/", PackOptions{Sort: true})
	old := func() string {
		dest := tempDir(t)
		writeFile(t, dest+"/f", "old")
		writeFile(t, dest+"/big", "old")
		if err := os.Symlink("old", dest+"/l"); err != nil {
			t.Fatal(err)
		}
		return dest
	}
	dest := old()
	held, err := os.Open(dest + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	unpack(t, data, dest, UnpackOptions{})
	if got, _ := os.ReadFile(dest + "/f"); string(got) != "new" {
		t.Errorf("replaced file holds %q", got)
	}
	if got, _ := io.ReadAll(held); string(got) != "old" {
		t.Errorf("who has the old file open reads %q", got)
	}

	dest = old()
	before := snapshot(t, dest)
	sum := unpack(t, data, dest, UnpackOptions{Overwrite: OverwriteKeep})
	if sum.NoteCount != 3 || sum.Notes[0].Reason != ReasonExists || sum.Files != 0 {
		t.Errorf("summary %+v", sum)
	}
	sameTree(t, before, snapshot(t, dest))
	_, err = Unpack(t.Context(), bytes.NewReader(data), dest, UnpackOptions{Overwrite: OverwriteFail})
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "big") {
		t.Errorf("error %v", err)
	}
	sameTree(t, before, snapshot(t, dest))

	// Directories and files do not replace one another.
	dest = tempDir(t)
	writeFile(t, dest+"/f/inside", "x")
	if _, err = Unpack(t.Context(), bytes.NewReader(data), dest, UnpackOptions{}); !errors.Is(err, unix.EISDIR) {
		t.Errorf("file over directory: %v", err)
	}
	dest = tempDir(t)
	writeFile(t, dest+"/d", "x")
	data = tarOf(t, directory("d/"))
	if _, err = Unpack(t.Context(), bytes.NewReader(data), dest, UnpackOptions{}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("directory over file: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root may mount a small file system")
	}
	dest := tempDir(t)
	if err := mountSmall(dest); err != nil {
		t.Skipf("SKIP: cannot mount a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dest, 0); err != nil {
			t.Error(err)
		}
	}()
	writeFile(t, dest+"/big", "old")
	writeFile(t, dest+"/small7", "old")
	src := tempDir(t)
	writeFile(t, src+"/big", strings.Repeat("b", 2<<20))
	_, err := Unpack(t.Context(), packed(t, src+"/"), dest, UnpackOptions{})
	var pathErr *fs.PathError
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &pathErr) || pathErr.Path != dest+"/big" {
		t.Errorf("error %v", err)
	}
	src = tempDir(t)
	for i := range 20 {
		writeFile(t, fmt.Sprintf("%s/small%d", src, i), strings.Repeat("s", 100<<10))
	}
	sum, err := Unpack(t.Context(), packed(t, src+"/"), dest, UnpackOptions{})
	if !errors.Is(err, unix.ENOSPC) || sum.Files == 0 || sum.Files > 10 {
		t.Errorf("error %v, %+v", err, sum)
	}
	if got, err := os.ReadFile(dest + "/big"); string(got) != "old" {
		t.Errorf("big holds %.20q, %v", got, err)
	}
	noTemps(t, dest)
}

func packed(t *testing.T, root string) io.Reader {
	data, _ := pack(t, root, PackOptions{Sort: true})
	return bytes.NewReader(data)
}

// A file that is not as it was when its size was read leaves the archive well
// formed.
func TestChangesWhileRead(t *testing.T) {
	const size = 4 * bufferSize
	for _, tt := range []struct {
		name   string
		size   int64
		reason Reason
	}{{"grows", size + 1000, ReasonGrew}, {"shrinks", bufferSize, ReasonShrank}} {
		t.Run(tt.name, func(t *testing.T) {
			src := tempDir(t)
			writeFile(t, src+"/f", strings.Repeat("x", size))
			writeFile(t, src+"/g", "after")
			var changed bool
			opts := PackOptions{Sort: true, Progress: func(p Progress) {
				if p.Name == "./f" && p.Bytes > 0 && !changed {
					changed = true
					if err := os.Truncate(src+"/f", tt.size); err != nil {
						t.Error(err)
					}
				}
			}}
			data, sum := pack(t, src+"/", opts)
			if sum.NoteCount != 1 || sum.Notes[0].Name != "./f" || sum.Notes[0].Reason != tt.reason {
				t.Errorf("notes %+v", sum.Notes)
			}
			dest := tempDir(t)
			unpack(t, data, dest, UnpackOptions{})
			st, err := os.Stat(dest + "/f")
			if err != nil || st.Size() != size {
				t.Errorf("restored size %v, %v", st, err)
			}
			if got, _ := os.ReadFile(dest + "/g"); string(got) != "after" {
				t.Errorf("the next file holds %q", got)
			}
		})
	}
}

func TestVanishesWhileRead(t *testing.T) {
	src := tempDir(t)
	writeFile(t, src+"/a", "a")
	writeFile(t, src+"/b", "b")
	writeFile(t, src+"/c/d", "d")
	opts := PackOptions{Sort: true, Progress: func(p Progress) {
		if p.Name == "./a" {
			_ = os.Remove(src + "/b")
			_ = os.RemoveAll(src + "/c")
		}
	}}
	data, sum := pack(t, src+"/", opts)
	if sum.NoteCount != 2 || sum.Notes[0].Name != "./b" || sum.Notes[1].Reason != ReasonVanished || sum.Files != 1 {
		t.Errorf("summary %+v", sum)
	}
	unpack(t, data, tempDir(t), UnpackOptions{})
}

func TestCancel(t *testing.T) {
	src := tempDir(t)
	for i := range 10 {
		writeFile(t, fmt.Sprintf("%s/%d", src, i), "x")
	}
	stopper := func() (context.Context, func(Progress)) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		return ctx, func(p Progress) {
			if p.Entries == 5 {
				cancel()
			}
		}
	}
	ctx, stop := stopper()
	sum, err := Pack(ctx, io.Discard, src, PackOptions{Progress: stop})
	if !errors.Is(err, context.Canceled) || sum.Files != 4 {
		t.Errorf("Pack: %v, %+v", err, sum)
	}
	data, _ := pack(t, src+"/", PackOptions{})
	ctx, stop = stopper()
	sum, err = Unpack(ctx, bytes.NewReader(data), tempDir(t), UnpackOptions{Progress: stop})
	if !errors.Is(err, context.Canceled) || sum.Files != 4 {
		t.Errorf("Unpack: %v, %+v", err, sum)
	}
}
