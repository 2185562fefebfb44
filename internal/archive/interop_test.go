//go:build linux || darwin

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// gnuTar returns the path of GNU tar.
func gnuTar(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"gtar", "tar"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, err := exec.Command(path, "--version").Output(); err == nil && bytes.Contains(out, []byte("GNU tar")) {
			return path
		}
	}
	t.Skip("SKIP: no GNU tar on this machine")
	return ""
}

func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil || errOut.Len() > 0 {
		t.Fatalf("%s %q: %v: %s", name, args, err, errOut.Bytes())
	}
	return out.Bytes()
}

func interopTree(t *testing.T) (src, want string) {
	src = filepath.Join(tempDir(t), "src")
	richTree(t, src)
	addAttributes(t, src)
	if os.Getuid() == 0 {
		addOwned(t, src)
	}
	setTime(t, src, 1_000_000_003, 999_999_999)
	return src, snapshot(t, src)
}

func TestGNUTarReadsOurs(t *testing.T) {
	gnu := gnuTar(t)
	src, want := interopTree(t)
	data, _ := pack(t, src, PackOptions{Xattrs: true, Specials: true})
	dest := tempDir(t)
	run(t, data, gnu, "-x", "-p", "--numeric-owner", "--warning=no-timestamp", "--xattrs", "--xattrs-include=*", "-C", dest)
	sameTree(t, want, snapshot(t, dest+"/src"))
	if out := run(t, data, gnu, "-d", "-C", filepath.Dir(src)); len(out) > 0 {
		t.Errorf("tar --compare: %s", out)
	}
}

func TestWeReadGNUTars(t *testing.T) {
	gnu := gnuTar(t)
	src, want := interopTree(t)
	for _, args := range [][]string{
		{"--format=posix", "--sparse", "--xattrs", "--xattrs-include=*"},
		{"--format=posix", "--xattrs", "--xattrs-include=*"},
	} {
		data := run(t, nil, gnu, append(args, "-c", "-C", filepath.Dir(src), "src")...)
		dest := tempDir(t) + "/dst"
		unpack(t, data, dest, UnpackOptions{PreserveOwner: true, Xattrs: true, Specials: true, StripComponents: 1})
		sameTree(t, want, snapshot(t, dest))
	}
}

// GNU's own format has neither fractions of seconds nor attributes.
func TestWeReadGNUFormat(t *testing.T) {
	gnu := gnuTar(t)
	src, _ := interopTree(t)
	data := run(t, nil, gnu, "--format=gnu", "-c", "-C", filepath.Dir(src), "src")
	theirs, ours := tempDir(t), tempDir(t)
	run(t, data, gnu, "-x", "-p", "--numeric-owner", "--warning=no-timestamp", "-C", theirs)
	unpack(t, data, ours, UnpackOptions{PreserveOwner: true, Specials: true})
	sameTree(t, snapshot(t, theirs+"/src"), snapshot(t, ours+"/src"))
}

func TestOldSparseFormats(t *testing.T) {
	gnu := gnuTar(t)
	src := tempDir(t)
	f, err := os.Create(src + "/many")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 60 { // more extents than go into the header and one block behind it
		if _, err := f.WriteAt([]byte("island"), int64(i)<<20); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, src+"/hole", "")
	if err := os.Truncate(src+"/hole", 1<<20+5); err != nil {
		t.Fatal(err)
	}
	want := snapshotContent(t, src)
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"},
	} {
		data := run(t, nil, gnu, append(args, "--sparse", "-c", "-C", src, "many", "hole")...)
		if len(data) > 1<<20 {
			t.Fatalf("%q: tar found no holes here", args)
		}
		dest := tempDir(t)
		unpack(t, data, dest, UnpackOptions{})
		if got := snapshotContent(t, dest); got != want {
			t.Errorf("%q:\n%s\nwant\n%s", args, got, want)
		}
	}
}

const pythonExtract = `
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errors="surrogateescape") as t:
    t.extractall(sys.argv[1], numeric_owner=True, **({"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}))
`

const pythonCreate = `
import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as t:
    t.add(sys.argv[1], "src")
`

func TestPythonTarfile(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIP: no python3 on this machine")
	}
	src := filepath.Join(tempDir(t), "src")
	richTree(t, src)
	if err := os.WriteFile(src+"/latin\xe9\xff", []byte("3"), 0o644); err != nil {
		t.Logf("no names that are not UTF-8 here: %v", err)
	}
	// Python's times are floating point numbers: compare what those keep.
	coarse := func(snap string) string {
		var lines []string
		for l := range strings.SplitSeq(snap, "\n") {
			before, after, _ := strings.Cut(l, "mtime ")
			seconds, rest, _ := strings.Cut(after, ".")
			if seconds == "-2" || seconds == "-1" {
				seconds = "-2 or -1" // cut toward zero
			}
			lines = append(lines, before+seconds+" "+rest[9:])
		}
		return strings.Join(lines, "\n")
	}
	want := snapshot(t, src)

	data, _ := pack(t, src, PackOptions{})
	dest := tempDir(t)
	run(t, data, python, "-c", pythonExtract, dest)
	sameTree(t, coarse(dropLinkTimes(want)), coarse(dropLinkTimes(snapshot(t, dest+"/src"))))

	dest = tempDir(t) + "/dst"
	data = run(t, nil, python, "-c", pythonCreate, src)
	unpack(t, data, dest, UnpackOptions{PreserveOwner: true, StripComponents: 1})
	sameTree(t, coarse(want), coarse(snapshot(t, dest)))
}

// dropLinkTimes takes the times of symbolic links out of a snapshot: Python
// does not restore them.
func dropLinkTimes(snap string) string {
	var lines []string
	for l := range strings.SplitSeq(snap, "\n") {
		if strings.Contains(l, " -> ") {
			before, after, _ := strings.Cut(l, "mtime ")
			_, after, _ = strings.Cut(after, " ")
			l = before + "mtime 0.000000000 " + after
		}
		lines = append(lines, l)
	}
	return strings.Join(lines, "\n")
}

// The standard library's reader and ours must agree on what we write, and on
// what its writer writes.
func TestStandardLibraryAgrees(t *testing.T) {
	src, _ := interopTree(t)
	data, _ := pack(t, src, PackOptions{Xattrs: true, Specials: true, Sort: true})
	n := 0
	theirs := tar.NewReader(bytes.NewReader(data))
	ours := decoder{in: newSource(bytes.NewReader(data))}
	for {
		var h header
		oerr := ours.next(&h)
		th, terr := theirs.Next()
		if errors.Is(oerr, io.EOF) && errors.Is(terr, io.EOF) {
			break
		}
		if oerr != nil || terr != nil {
			t.Fatalf("ours %v, theirs %v", oerr, terr)
		}
		agree(t, &h, th)
		n++
	}
	if n < 20 {
		t.Errorf("only %d entries", n)
	}
}

func agree(t *testing.T, h *header, th *tar.Header) {
	t.Helper()
	size := h.size
	if h.isSparse {
		size = h.realSize
	}
	flag := byte(h.kind)
	if h.name != th.Name || h.link != th.Linkname || int64(h.mode) != th.Mode || size != th.Size || flag != th.Typeflag ||
		h.uid != int64(th.Uid) || h.gid != int64(th.Gid) || h.uname != th.Uname || h.gname != th.Gname ||
		!h.mtime.Equal(th.ModTime) || int64(h.major) != th.Devmajor || int64(h.minor) != th.Devminor {
		t.Errorf("ours   %+v\ntheirs %+v", h, th)
	}
}

// FuzzHeader writes a header with the standard library and with this package
// and reads both back with both.
func FuzzHeader(f *testing.F) {
	f.Add("name", "", "alice", "staff", int64(0o644), int64(1000), int64(1000), int64(12), int64(1_700_000_000), int64(123456789), byte('0'))
	f.Add("ü/x", "t\xff", "", "ö", int64(0o7777), int64(1<<40), int64(-1), int64(1<<35), int64(-5), int64(500), byte('2'))
	f.Add(strings.Repeat("l/", 300), strings.Repeat("t", 101), strings.Repeat("u", 32), "", int64(0), int64(0), int64(0), int64(0), int64(1<<34), int64(0), byte('1'))
	f.Fuzz(func(t *testing.T, name, link, uname, gname string, mode, uid, gid, size, sec, nsec int64, flag byte) {
		h := header{
			kind: kindOf(flag), name: name, link: link, uname: uname, gname: gname, mode: uint32(mode & 0o7777),
			uid: uid & (1<<40 - 1), gid: gid & (1<<40 - 1), size: size & (1<<50 - 1),
			mtime: unixMod(sec, nsec),
		}
		if h.kind == kindUnknown || h.kind == kindChar || h.kind == kindBlock {
			h.kind = kindFile
		}
		if h.kind == kindDir && !strings.HasSuffix(h.name, "/") {
			h.name += "/"
		} else if h.kind == kindFile {
			h.name = strings.TrimRight(h.name, "/")
		}
		if h.kind == kindHardlink || h.kind == kindSymlink {
			h.link += "x"
		} else {
			h.link = ""
		}
		if !h.kind.hasData() {
			h.size = 0
		}
		if h.name == "" || strings.ContainsRune(h.name+h.link+h.uname+h.gname, 0) {
			return
		}
		var e encoder
		ours, err := e.append(nil, &h)
		if err != nil {
			return // too much metadata
		}
		th := &tar.Header{
			Format: tar.FormatPAX, Typeflag: byte(h.kind), Name: h.name, Linkname: h.link, Uname: h.uname, Gname: h.gname,
			Mode: int64(h.mode), Uid: int(h.uid), Gid: int(h.gid), Size: h.size, ModTime: h.mtime,
		}
		var b bytes.Buffer
		streams := [][]byte{ours}
		if err := tar.NewWriter(&b).WriteHeader(th); err == nil {
			streams = append(streams, b.Bytes())
		}
		for i, s := range streams {
			var got header
			d := decoder{in: newSource(bytes.NewReader(s))}
			if err := d.next(&got); err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
			agree(t, &got, th)
			std, err := tar.NewReader(bytes.NewReader(s)).Next()
			if err != nil {
				t.Fatalf("stream %d: standard library: %v", i, err)
			}
			agree(t, &h, std)
		}
	})
}

// snapshotContent has the names, sizes and contents of the files in root, and
// fails if one takes more room than a hundredth of its size.
func snapshotContent(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	for _, name := range names(t, root)[1:] {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > max(st.Size/100, 1<<19) {
			t.Errorf("%s takes %d blocks", name, st.Blocks)
		}
		sum, err := contentSum(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d %s", name, st.Size, sum))
	}
	return strings.Join(lines, "\n")
}
