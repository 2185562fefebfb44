//go:build linux || darwin

package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func contentSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// richTree makes a tree with everything that an archive carries and an
// ordinary user may make; as root also what only root may.
func richTree(t *testing.T, root string) {
	t.Helper()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("n", 200)
	writeFile(t, root+"/plain", "plain content")
	writeFile(t, root+"/empty", "")
	writeFile(t, root+"/block", strings.Repeat("b", 512))
	writeFile(t, root+"/large", strings.Repeat("0123456789abcdef", 100_000))
	writeFile(t, root+"/edge", strings.Repeat("e", bufferSize))
	writeFile(t, root+"/new\nline", "1")
	writeFile(t, root+"/ümläut", "2")
	writeFile(t, root+"/"+long, "4")
	writeFile(t, root+"/"+strings.Repeat("d", 99)+"/"+long, "5")
	writeFile(t, root+"/sub/deep/file", "6")
	writeFile(t, root+"/-rf", "7")
	do(os.Mkdir(root+"/emptydir", 0o755))
	do(os.Symlink("plain", root+"/link"))
	do(os.Symlink("../../nowhere", root+"/sub/dangling"))
	do(os.Symlink(strings.Repeat("t/", 150), root+"/longlink"))
	do(os.Link(root+"/plain", root+"/sub/hard"))
	do(os.Link(root+"/plain", root+"/hard2"))
	for name, mode := range map[string]uint32{
		"plain": 0o600, "empty": 0o777, "block": 0o444, "large": 0o640, "sub/deep": 0o500, "emptydir": 0o1777,
	} {
		do(unix.Chmod(filepath.Join(root, name), mode))
	}
	f, err := os.Create(root + "/sparse")
	do(err)
	for _, off := range []int64{0, 1 << 20, 16<<20 + 77} {
		_, err := f.WriteAt([]byte("data in a hole"), off)
		do(err)
	}
	do(f.Truncate(20 << 20))
	do(f.Close())
	f, err = os.Create(root + "/hole")
	do(err)
	do(f.Truncate(1 << 20))
	do(f.Close())
	setTime(t, root+"/plain", 1_234_567_890, 123_456_789)
	setTime(t, root+"/large", 0, 1)
	setTime(t, root+"/empty", -2, 250_000_000)
	setTime(t, root+"/block", 1<<33+5, 0)
	setTime(t, root+"/link", 1_000_000_000, 5)
	setTime(t, root+"/sub/deep", 1_000_000_001, 100)
	setTime(t, root+"/sub", 1_000_000_002, 0)
	setTime(t, root, 1_000_000_003, 999_999_999)
}

// addAttributes adds names that are not UTF-8, which darwin refuses, and
// attributes where the file system has them.
func addAttributes(t *testing.T, root string) {
	t.Helper()
	if err := os.WriteFile(root+"/latin\xe9\xff", []byte("3"), 0o644); err != nil {
		t.Logf("no names that are not UTF-8 here: %v", err)
	}
	for _, x := range []xattr{{"user.text", "a value"}, {"user.bin=ary%", "\x00\n=\xff"}, {"user.empty", ""}} {
		if err := unix.Setxattr(root+"/plain", x.name, []byte(x.value), 0); err != nil {
			t.Logf("no attributes here: %v", err)
			return
		}
		if err := unix.Setxattr(root+"/sub", x.name, []byte(x.value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		if err := unix.Setxattr(root+"/empty", capabilityXattr, []byte(capability), 0); err != nil {
			t.Logf("no file capabilities here: %v", err)
		}
	}
}

// addOwned adds what only root may make.
func addOwned(t *testing.T, root string) {
	t.Helper()
	for i, name := range []string{"setuid", "setgid", "foreign", "huge"} {
		writeFile(t, root+"/owned/"+name, name)
		uid := 1000 + i
		if name == "huge" {
			uid = 3_000_000_000 // beyond ustar's octal field
		}
		if err := os.Lchown(root+"/owned/"+name, uid, 2000+i); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]uint32{"setuid": 0o4755, "setgid": 0o2755, "foreign": 0o640} {
		if err := unix.Chmod(root+"/owned/"+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Lchown(root+"/link", 1234, 4321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(root+"/emptydir", 1234, 4321); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(root+"/fifo", 0o622); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(root+"/fifo", 0o622); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(root+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Logf("no device nodes here: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	src := filepath.Join(tempDir(t), "src")
	richTree(t, src)
	addAttributes(t, src)
	if os.Getuid() == 0 {
		addOwned(t, src)
	}
	setTime(t, src, 1_000_000_003, 999_999_999)
	want := snapshot(t, src)
	data, packed := pack(t, src, PackOptions{Xattrs: true, Specials: true})
	if len(data) > 4<<20 {
		t.Errorf("archive has %d bytes: holes were stored", len(data))
	}
	opts := UnpackOptions{PreserveOwner: true, Xattrs: true, Specials: true, StripComponents: 1}
	for _, how := range []string{"fresh", "again over itself"} {
		t.Run(how, func(t *testing.T) {
			dest := filepath.Join(filepath.Dir(src), "dst")
			got := unpack(t, data, dest, opts)
			if how != "fresh" { // what exists keeps its own time
				setTime(t, dest, 1_000_000_003, 999_999_999)
			}
			sameTree(t, want, snapshot(t, dest))
			if got.Files != packed.Files || got.Dirs != packed.Dirs || got.Symlinks != packed.Symlinks ||
				got.Hardlinks != packed.Hardlinks || got.Specials != packed.Specials || got.Bytes != packed.Bytes {
				t.Errorf("packed %+v\nunpacked %+v", packed, got)
			}
			if packed.NoteCount+got.NoteCount != 0 {
				t.Errorf("notes: %v %v", packed.Notes, got.Notes)
			}
			var st unix.Stat_t
			if err := unix.Stat(dest+"/sparse", &st); err != nil || st.Blocks*512 > 1<<20 {
				t.Errorf("sparse file takes %d blocks, %v", st.Blocks, err)
			}
		})
	}
}

func TestOneByteAtATime(t *testing.T) {
	src := filepath.Join(tempDir(t), "src")
	richTree(t, src)
	if err := os.Truncate(src+"/large", 1000); err != nil {
		t.Fatal(err)
	}
	want := snapshot(t, src)
	data, _ := pack(t, src, PackOptions{})
	dest := tempDir(t) + "/dst"
	_, err := Unpack(t.Context(), &slowReader{data: data}, dest, UnpackOptions{PreserveOwner: true, StripComponents: 1})
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, want, snapshot(t, dest))
}

// slowReader gives one byte, then nothing, then one byte together with the end.
type slowReader struct {
	data  []byte
	empty bool
}

func (r *slowReader) Read(b []byte) (int, error) {
	if r.empty = !r.empty; r.empty && len(r.data)%7 == 0 {
		return 0, nil
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	b[0] = r.data[0]
	r.data = r.data[1:]
	if len(r.data) == 0 {
		return 1, io.EOF
	}
	return 1, nil
}

func TestReaderError(t *testing.T) {
	want := errors.New("line is dead")
	src := tempDir(t)
	writeFile(t, src+"/f", "x")
	data, _ := pack(t, src+"/", PackOptions{})
	r := io.MultiReader(strings.NewReader(string(data[:700])), errReader{want})
	if _, err := Unpack(t.Context(), r, tempDir(t), UnpackOptions{}); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if _, err := Pack(t.Context(), errWriter{want}, src, PackOptions{}); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

// unixMod brings any numbers into the times that tar can say.
func unixMod(sec, nsec int64) time.Time {
	return time.Unix(sec%(1<<40), (nsec%1e9+1e9)%1e9)
}
