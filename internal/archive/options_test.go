//go:build linux || darwin

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func mustStat(t *testing.T, path string) info {
	t.Helper()
	st, err := statAt(unix.AT_FDCWD, path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// entryNames lists an archive as the standard library reads it.
func entryNames(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(h.Typeflag)+" "+h.Name)
	}
}

func TestRoots(t *testing.T) {
	top := tempDir(t)
	writeFile(t, top+"/dir/file", "x")
	if err := os.Symlink("dir", top+"/link"); err != nil {
		t.Fatal(err)
	}
	t.Chdir(top + "/dir")
	for _, tt := range []struct {
		root string
		want []string
	}{
		{top + "/dir", []string{"5 dir/", "0 dir/file"}},
		{top + "/dir/", []string{"5 ./", "0 ./file"}},
		{top + "/dir//", []string{"5 ./", "0 ./file"}},
		{top + "/dir/.", []string{"5 ./", "0 ./file"}},
		{".", []string{"5 ./", "0 ./file"}},
		{"../dir", []string{"5 dir/", "0 dir/file"}},
		{"..", []string{"5 ./", "5 ./dir/", "0 ./dir/file", "2 ./link"}},
		{"file", []string{"0 file"}},
		{top + "/link", []string{"2 link"}},
		{top + "/link/", []string{"5 ./", "0 ./file"}},
		{top + "/link/file", []string{"0 file"}},
	} {
		data, _ := pack(t, tt.root, PackOptions{Sort: true})
		if got := entryNames(t, data); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.root, got, tt.want)
		}
	}
	for _, root := range []string{top + "/missing", top + "/missing/", top + "/dir/file/", ""} {
		var pathErr *fs.PathError
		if _, err := Pack(t.Context(), io.Discard, root, PackOptions{}); !errors.As(err, &pathErr) {
			t.Errorf("%q: error %v", root, err)
		}
	}
}

// Packing the same tree twice gives the same bytes.
func TestSortIsDeterministic(t *testing.T) {
	src := tempDir(t) + "/src"
	richTree(t, src)
	a, _ := pack(t, src, PackOptions{Sort: true})
	b, _ := pack(t, src, PackOptions{Sort: true})
	if !bytes.Equal(a, b) {
		t.Error("two archives of one tree differ")
	}
	got := entryNames(t, a)
	if !slices.IsSortedFunc(got[1:], func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a[2:], "/", "\x00"), strings.ReplaceAll(b[2:], "/", "\x00"))
	}) {
		t.Errorf("not sorted: %q", got)
	}
}

func TestWhatIsNotPacked(t *testing.T) {
	src := tempDir(t)
	writeFile(t, src+"/file", "x")
	l, err := net.Listen("unix", src+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.Mkfifo(src+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	data, sum := pack(t, src+"/", PackOptions{Sort: true})
	if want := []string{"5 ./", "0 ./file"}; !slices.Equal(entryNames(t, data), want) {
		t.Errorf("archive holds %q", entryNames(t, data))
	}
	if sum.NoteCount != 2 || sum.Notes[0] != (Note{"./fifo", ReasonSpecial, nil}) || sum.Notes[1] != (Note{"./socket", ReasonSocket, nil}) {
		t.Errorf("notes %+v", sum.Notes)
	}
	data, sum = pack(t, src+"/", PackOptions{Specials: true})
	if sum.Specials != 1 || sum.NoteCount != 1 {
		t.Errorf("with specials: %+v", sum)
	}
	sum = unpack(t, data, tempDir(t), UnpackOptions{})
	if sum.Specials != 0 || sum.NoteCount != 1 || sum.Notes[0].Reason != ReasonSpecial {
		t.Errorf("unpacked without: %+v", sum)
	}
}

func TestNotesAreBounded(t *testing.T) {
	src := tempDir(t)
	for i := range MaxNotes + 20 {
		if err := unix.Mkfifo(filepath.Join(src, string(rune('A'+i/26))+string(rune('a'+i%26))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, sum := pack(t, src, PackOptions{})
	if sum.NoteCount < MaxNotes+20 || len(sum.Notes) != MaxNotes {
		t.Errorf("%d notes, %d listed", sum.NoteCount, len(sum.Notes))
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("SKIP: root may read everything")
	}
	src := tempDir(t)
	writeFile(t, src+"/a/file", "x")
	writeFile(t, src+"/dir/file", "x")
	for _, name := range []string{"/a/file", "/dir"} {
		if err := os.Chmod(src+name, 0); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Pack(t.Context(), io.Discard, src+"/", PackOptions{Sort: true})
	var pathErr *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &pathErr) || pathErr.Path != src+"/a/file" {
		t.Errorf("error %v", err)
	}
	data, sum := pack(t, src+"/", PackOptions{Sort: true, SkipUnreadable: true})
	if want := []string{"5 ./", "5 ./a/", "5 ./dir/"}; !slices.Equal(entryNames(t, data), want) || sum.NoteCount != 2 {
		t.Errorf("%q, %+v", entryNames(t, data), sum)
	}
}

func TestModes(t *testing.T) {
	data := tarOf(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o4755, Uid: 1, Gid: 1},
		tar.Header{Typeflag: tar.TypeReg, Name: "sgid", Mode: 0o2775, Uid: 1, Gid: 1},
		tar.Header{Typeflag: tar.TypeReg, Name: "open", Mode: 0o666},
		tar.Header{Typeflag: tar.TypeReg, Name: "none", Mode: 0, Uname: "content"},
		tar.Header{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o777},
		tar.Header{Typeflag: tar.TypeReg, Name: "implicit/file", Mode: 0o600},
	)
	for _, tt := range []struct {
		umask uint32
		modes map[string]uint32
	}{
		{0, map[string]uint32{"suid": 0o755, "sgid": 0o775, "open": 0o666, "none": 0o755, "dir": 0o777}},
		{0o027, map[string]uint32{"suid": 0o750, "sgid": 0o750, "open": 0o640, "none": 0o750, "dir": 0o750}},
	} {
		dest := tempDir(t)
		unpack(t, data, dest, UnpackOptions{Umask: tt.umask})
		for name, want := range tt.modes {
			if got := mustStat(t, dest+"/"+name).mode & 0o7777; got != want {
				t.Errorf("umask %o: %s has mode %o, want %o", tt.umask, name, got, want)
			}
		}
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: only root may give files away")
	}
	data := tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o755, Uid: 5, Gid: 6},
		tar.Header{Typeflag: tar.TypeReg, Name: "dir/f", Mode: 0o6755, Uid: 7, Gid: 8},
		tar.Header{Typeflag: tar.TypeReg, Name: "dir/g", Mode: 0o640, Uid: 7, Gid: 8},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "x", Uid: 9, Gid: 10},
		tar.Header{Typeflag: tar.TypeReg, Name: "implicit/f", Mode: 0o600, Uid: 1 << 40, Gid: 1<<32 - 1},
	)
	type owned struct{ uid, gid, mode uint32 }
	for _, tt := range []struct {
		opts UnpackOptions
		want map[string]owned
	}{
		{UnpackOptions{}, map[string]owned{
			"dir": {0, 0, 0o755}, "dir/f": {0, 0, 0o755}, "l": {0, 0, 0o777}, "implicit/f": {0, 0, 0o600}}},
		{UnpackOptions{PreserveOwner: true}, map[string]owned{
			"dir": {5, 6, 0o755}, "dir/f": {7, 8, 0o6755}, "dir/g": {7, 8, 0o640}, "l": {9, 10, 0o777}, "implicit/f": {65534, 65534, 0o600}}},
		{UnpackOptions{PreserveOwner: true, Owner: &Owner{11, 12}}, map[string]owned{
			"dir": {11, 12, 0o755}, "dir/f": {11, 12, 0o755}, "l": {11, 12, 0o777}, "implicit": {11, 12, 0o755}, "implicit/f": {11, 12, 0o600}}},
	} {
		dest := tempDir(t)
		unpack(t, data, dest, tt.opts)
		for name, want := range tt.want {
			st := mustStat(t, dest+"/"+name)
			got := owned{st.uid, st.gid, st.mode & 0o7777}
			if name == "implicit" {
				got.mode = want.mode // the umask's
			}
			if got != want {
				t.Errorf("%+v: %s is %+v, want %+v", tt.opts, name, got, want)
			}
		}
	}
}

// A file capability is a set-id bit by another name.
func TestCapabilityNeedsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: only root may set file capabilities")
	}
	src := tempDir(t)
	writeFile(t, src+"/f", "x")
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	if err := unix.Setxattr(src+"/f", capabilityXattr, capability, 0); err != nil {
		t.Skipf("SKIP: no file capabilities here: %v", err)
	}
	data, _ := pack(t, src+"/", PackOptions{Xattrs: true})
	for _, tt := range []struct {
		opts UnpackOptions
		want bool
	}{
		{UnpackOptions{Xattrs: true, PreserveOwner: true}, true},
		{UnpackOptions{Xattrs: true}, false},
		{UnpackOptions{Xattrs: true, Owner: &Owner{5, 5}}, false},
		{UnpackOptions{PreserveOwner: true}, false},
	} {
		dest := tempDir(t)
		unpack(t, data, dest, tt.opts)
		if got := attrText(dest+"/f") != ""; got != tt.want {
			t.Errorf("%+v: capability restored: %v", tt.opts, got)
		}
	}
}

func TestForeignAttributesAreIgnored(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o444, PAXRecords: map[string]string{
		"SCHILY.xattr.trusted.evil": "1", "SCHILY.xattr.security.ima": "1", "SCHILY.xattr.user.fine": "2",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dest := tempDir(t)
	sum := unpack(t, b.Bytes(), dest, UnpackOptions{Xattrs: true, PreserveOwner: true})
	names, err := readXattr(func(b []byte) (int, error) { return unix.Listxattr(dest+"/f", b) })
	if err != nil || bytes.Contains(names, []byte("evil")) || bytes.Contains(names, []byte("ima")) {
		t.Errorf("attributes %q, %v", names, err)
	}
	if !bytes.Contains(names, []byte("user.fine")) && sum.NoteCount == 0 {
		t.Errorf("attributes %q, without a note", names)
	}
}

func TestStripComponents(t *testing.T) {
	data := tarOf(t, directory("a/"), regular("a/b/c"), regular("top"), hardlink("a/h", "a/b/c"), symlink("a/l", "a/b/c"))
	dest := tempDir(t) + "/new"
	sum := unpack(t, data, dest, UnpackOptions{StripComponents: 1})
	if want := []string{".", "b", "b/c", "h", "l"}; !slices.Equal(names(t, dest), want) {
		t.Errorf("unpacked %q, want %q", names(t, dest), want)
	}
	if sum.NoteCount != 1 || sum.Notes[0] != (Note{"top", ReasonStripped, nil}) {
		t.Errorf("notes %+v", sum.Notes)
	}
	if target, _ := os.Readlink(dest + "/l"); target != "a/b/c" {
		t.Errorf("symbolic link to %q", target)
	}
	// An error names the file as it is on disk.
	dest = tempDir(t)
	writeFile(t, dest+"/b", "in the way")
	_, err := Unpack(t.Context(), bytes.NewReader(data), dest, UnpackOptions{StripComponents: 1})
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Path != dest+"/b" {
		t.Errorf("error %v", err)
	}
}

func TestUnknownTypesAreSkipped(t *testing.T) {
	data := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "volume", Uname: "its data"}, regular("file"))
	data[offType] = 'V' // GNU's volume header
	dest := tempDir(t)
	sum := unpack(t, fixChecksums(data), dest, UnpackOptions{})
	if sum.Files != 1 || sum.NoteCount != 1 || sum.Notes[0] != (Note{"volume", ReasonUnknownType, nil}) {
		t.Errorf("summary %+v", sum)
	}
	if want := []string{".", "file"}; !slices.Equal(names(t, dest), want) {
		t.Errorf("unpacked %q", names(t, dest))
	}
}

// An entry for the destination changes it only if Unpack has made it.
func TestDestItself(t *testing.T) {
	data := tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711}, regular("./f"))
	dest := tempDir(t)
	before := mustStat(t, dest).mode
	unpack(t, data, dest, UnpackOptions{})
	if got := mustStat(t, dest).mode; got != before {
		t.Errorf("mode %o became %o", before, got)
	}
	unpack(t, data, dest+"/made/here", UnpackOptions{})
	if got := mustStat(t, dest+"/made/here").mode & 0o7777; got != 0o711 {
		t.Errorf("new destination has mode %o", got)
	}
}

// Nobody sees half of a large file, even a new one.
func TestLargeFileAppearsWhole(t *testing.T) {
	src, dest := tempDir(t), tempDir(t)
	writeFile(t, src+"/f", strings.Repeat("x", 5*bufferSize))
	data, _ := pack(t, src+"/", PackOptions{})
	seen := 0
	unpack(t, data, dest, UnpackOptions{Progress: func(p Progress) {
		if p.Bytes > 0 {
			seen++
			if _, err := os.Lstat(dest + "/f"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there after %d bytes: %v", p.Bytes, err)
			}
		}
	}})
	if seen < 5 {
		t.Errorf("%d reports of progress", seen)
	}
	if got := mustStat(t, dest+"/f").size; got != 5*bufferSize {
		t.Errorf("size %d", got)
	}
}

func TestOwnerNames(t *testing.T) {
	src := tempDir(t)
	writeFile(t, src+"/a", "x")
	writeFile(t, src+"/b", "x")
	asked := 0
	name := func(uint32) string { asked++; return "somebody" }
	data, _ := pack(t, src+"/", PackOptions{UserName: name, GroupName: name})
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	asked = 0
	me, group := uint32(os.Geteuid()), uint32(os.Getegid())
	lookup := func(id uint32) func(string) (uint32, bool) {
		return func(name string) (uint32, bool) {
			asked++
			return id, name == "somebody"
		}
	}
	dest := tempDir(t)
	sum := unpack(t, data, dest, UnpackOptions{PreserveOwner: true, LookupUser: lookup(me), LookupGroup: lookup(group)})
	if st := mustStat(t, dest+"/a"); asked != 2 || sum.NoteCount != 0 || st.uid != me || st.gid != group {
		t.Errorf("asked %d times, %+v, owner %d:%d", asked, sum, st.uid, st.gid)
	}
}
