package archive

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of one megabyte.
func mountSmall(dir string) error {
	return unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
}

// Files of /proc say that they are empty and are not.
func TestProcFiles(t *testing.T) {
	data, sum := pack(t, "/proc/self/status", PackOptions{})
	if sum.Files != 1 || sum.Bytes == 0 || sum.NoteCount != 0 {
		t.Errorf("summary %+v", sum)
	}
	dest := t.TempDir()
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
	src, dest := t.TempDir(), t.TempDir()
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

func mustOpen(t *testing.T, dir string) int {
	t.Helper()
	fd, err := openDir(unix.AT_FDCWD, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
