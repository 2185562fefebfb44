package archive

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of one megabyte.
func mountSmall(dir string) error {
	return unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
}

func TestOneFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root may mount a file system")
	}
	src := tempDir(t)
	writeFile(t, src+"/file", "x")
	if err := os.Mkdir(src+"/mounted", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(src + "/mounted"); err != nil {
		t.Skipf("SKIP: cannot mount a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(src+"/mounted", 0); err != nil {
			t.Error(err)
		}
	}()
	writeFile(t, src+"/mounted/other", "x")
	_, sum := pack(t, src, PackOptions{})
	if sum.Files != 2 {
		t.Errorf("everything: %+v", sum)
	}
	data, sum := pack(t, src+"/", PackOptions{OneFileSystem: true, Sort: true})
	if want := []string{"5 ./", "0 ./file", "5 ./mounted/"}; !slices.Equal(entryNames(t, data), want) {
		t.Errorf("archive holds %q", entryNames(t, data))
	}
	if sum.NoteCount != 1 || sum.Notes[0] != (Note{"./mounted", ReasonOtherFS, nil}) {
		t.Errorf("notes %+v", sum.Notes)
	}
}

// Files of /proc say that they are empty and are not.
func TestProcFiles(t *testing.T) {
	data, sum := pack(t, "/proc/self/status", PackOptions{})
	if sum.Files != 1 || sum.Bytes == 0 || sum.NoteCount != 0 {
		t.Errorf("summary %+v", sum)
	}
	dest := tempDir(t)
	unpack(t, data, dest, UnpackOptions{})
	got, err := os.ReadFile(dest + "/status")
	if err != nil || !bytes.HasPrefix(got, []byte("Name:\t")) {
		t.Errorf("restored %.20q, %v", got, err)
	}
}

// Thousands of levels are deeper than any path may be long, or descriptors be
// open: with a limit of 128 both ways work.
func TestDeep(t *testing.T) {
	const depth = 1000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 160
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	src, dest := tempDir(t), tempDir(t)
	dirs := dirStack{root: mustOpen(t, src)}
	name := strings.Repeat("d", 50)
	for range depth {
		top, err := dirs.top()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkdirat(top, name, 0o755); err != nil {
			t.Fatal(err)
		}
		fd, err := openDirAt(top, name)
		if err != nil {
			t.Fatal(err)
		}
		dirs.push(name, fd)
		f, err := openAt(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		release(f)
	}
	dirs.close()
	data, sum := pack(t, src+"/", PackOptions{})
	if sum.Dirs != depth+1 || sum.Files != depth {
		t.Errorf("packed %+v", sum)
	}
	sum = unpack(t, data, dest, UnpackOptions{PreserveOwner: true})
	if sum.Dirs != depth+1 || sum.Files != depth {
		t.Errorf("unpacked %+v", sum)
	}
	again, _ := pack(t, dest+"/", PackOptions{Sort: true})
	first, _ := pack(t, src+"/", PackOptions{Sort: true})
	if at := bytes.Index(first, []byte(name)); !bytes.Equal(again[at:], first[at:]) { // behind the entry of the top itself
		t.Error("the restored tree packs differently")
	}
}

// A directory so large that its names come in several batches, in which a deep
// descent makes its descriptor be closed between two of them.
func TestDeepAndWide(t *testing.T) {
	const files = 3000
	src, dest := tempDir(t), tempDir(t)
	if err := os.MkdirAll(src+"/a/wide", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		writeFile(t, fmt.Sprintf("%s/a/wide/%04d", src, i), "x")
		if i%500 == 0 {
			deep := fmt.Sprintf("%s/a/wide/deep%d", src, i) + strings.Repeat("/d", 2*maxOpenDirs)
			if err := os.MkdirAll(deep, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, sum := pack(t, src+"/", PackOptions{})
	if sum.Files != files || sum.Dirs != 3+6*(2*maxOpenDirs+1) {
		t.Errorf("packed %+v", sum)
	}
	unpack(t, data, dest, UnpackOptions{PreserveOwner: true})
	setTime(t, src, 1, 0)
	setTime(t, dest, 1, 0)
	sameTree(t, snapshot(t, src), snapshot(t, dest))
}

// Ten gigabytes of hole cost nothing, in the archive or on the way.
func TestHugeSparseFile(t *testing.T) {
	const size = 10 << 30
	src, dest := tempDir(t), tempDir(t)
	f, err := os.Create(src + "/disk")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 5 << 30, size - 4096} {
		if _, err := f.WriteAt([]byte("boot sector"), off); err != nil {
			t.Skipf("SKIP: no files of 10 GiB here: %v", err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	want := dataExtents(int(f.Fd()), size)
	if len(want) != 3 {
		t.Skipf("SKIP: the file system keeps no holes: %v", want)
	}
	data, sum := pack(t, src+"/", PackOptions{})
	if len(data) > 1<<20 || sum.Bytes > 1<<20 {
		t.Fatalf("archive has %d bytes: %+v", len(data), sum)
	}
	unpack(t, data, dest, UnpackOptions{Limits: Limits{MaxBytes: 1 << 20}})
	g, err := os.Open(dest + "/disk")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	st, err := g.Stat()
	if err != nil || st.Size() != size {
		t.Fatalf("restored %v, %v", st, err)
	}
	if got := dataExtents(int(g.Fd()), size); !slices.Equal(got, want) {
		t.Errorf("extents %v, want %v", got, want)
	}
	for _, e := range want {
		a, b := make([]byte, e.len), make([]byte, e.len)
		if _, err := f.ReadAt(a, e.off); err != nil {
			t.Fatal(err)
		}
		if _, err := g.ReadAt(b, e.off); err != nil || !bytes.Equal(a, b) {
			t.Errorf("content at %d differs, %v", e.off, err)
		}
	}
}

func mustOpen(t *testing.T, dir string) int {
	t.Helper()
	fd, err := openDir(unix.AT_FDCWD, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
