//go:build linux

package sftp

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opensshServer is Debian's.
const opensshServer = "/usr/lib/openssh/sftp-server"

// newOpenSSH starts OpenSSH's server in dir, with the umask of ours.
func newOpenSSH(t testing.TB, dir string, args ...string) *client {
	t.Helper()
	if _, err := os.Stat(opensshServer); err != nil {
		t.Skipf("OpenSSH's sftp-server is not here (apt install openssh-sftp-server): %v", err)
	}
	near, far := socketPair(t)
	file, err := far.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(opensshServer, append([]string{"-u", "022"}, args...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout = dir, file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	far.Close()
	file.Close()
	t.Cleanup(func() {
		near.Close()
		_ = cmd.Wait()
	})
	return &client{t: t, conn: near}
}

// pair is one tree and one server on it.
type pairSide struct {
	*client
	dir string
	log strings.Builder
}

// say notes what the other side must have answered too.
func (p *pairSide) say(format string, args ...any) {
	fmt.Fprintf(&p.log, strings.ReplaceAll(format, p.dir, "DIR")+"\n", args...)
}

// ask sends a request and notes the answer.
func (p *pairSide) ask(what string, kind byte, values ...any) answer {
	p.t.Helper()
	a := p.call(kind, values...)
	p.say("%s: %s", what, strings.ReplaceAll(describe(a), p.dir, "DIR"))
	return a
}

// describe is an answer in words, without what differs from run to run.
func describe(a answer) string {
	switch a.kind {
	case typeStatus:
		c := code(a.uint32())
		text := string(a.bytes())
		// Ours says why it is a failure.
		text, _, _ = strings.Cut(text, ":")
		return fmt.Sprintf("status %d %q", c, text)
	case typeHandle:
		return "handle"
	case typeData:
		return fmt.Sprintf("data %.60q", a.bytes())
	case typeAttrs:
		return "attrs " + describeAttrs(&a.fields)
	case typeName:
		var names []string
		for n := a.uint32(); n > 0 && !a.bad; n-- {
			name, long := a.text(), a.text()
			names = append(names, fmt.Sprintf("%q %q %s", name, long, describeAttrs(&a.fields)))
		}
		return fmt.Sprintf("%d names, first %q", len(names), names[:min(1, len(names))])
	}
	return fmt.Sprintf("type %d, %d bytes", a.kind, len(a.rest))
}

func describeAttrs(f *fields) string {
	at := f.attrs()
	size := at.size
	if at.perm&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("flags %x size %d owner %d:%d perm %o times %s %s", at.flags, size, at.uid, at.gid, at.perm, moment(at.atime), moment(at.mtime))
}

// moment is a time, or "now" for any of this test's run.
func moment[T uint32 | int64](seconds T) string {
	if seconds >= 1<<30 {
		return "now"
	}
	return fmt.Sprint(seconds)
}

// TestPair has OpenSSH's server and ours do the same in two trees and compares
// every answer, and the trees at the end.
func TestPair(t *testing.T) {
	for _, test := range pairTests {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			var sides [2]*pairSide
			for i, name := range []string{"openssh", "guestd"} {
				dir := filepath.Join(base, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				populate(t, dir)
				side := &pairSide{dir: dir}
				if i == 0 {
					side.client = newOpenSSH(t, dir, test.args...)
				} else {
					side.client, _ = startServer(t, dir, test.server)
				}
				side.hello()
				test.run(side)
				side.say("tree:\n%s", tree(t, dir))
				sides[i] = side
			}
			want := strings.Split(sides[0].log.String(), "\n")
			got := strings.Split(sides[1].log.String(), "\n")
			for i := range max(len(want), len(got)) {
				w, g := "", ""
				if i < len(want) {
					w = want[i]
				}
				if i < len(got) {
					g = got[i]
				}
				reason := test.differs[strings.SplitN(g, ": ", 2)[0]]
				if (w != g) != (reason != "") {
					t.Errorf("OpenSSH: %s\n     ours:    %s\n     %s", w, g, reason)
				}
			}
		})
	}
}

// populate fills a tree with one of everything.
func populate(t *testing.T, dir string) {
	t.Helper()
	old := time.Unix(86400*365, 0)
	writeFile(t, filepath.Join(dir, "file"), "content of a file\n")
	writeFile(t, filepath.Join(dir, "other"), "another\n")
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.Mkdir(filepath.Join(dir, "full"), 0o750),
		os.Symlink("file", filepath.Join(dir, "link")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Chtimes(filepath.Join(dir, "file"), old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "full", "x"), "x")
}

// tree is what is in dir, in words.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		stat := info.Sys().(*unixStat)
		fmt.Fprintf(&out, "%q %v %d:%d links %d", rel, info.Mode(), stat.Uid, stat.Gid, stat.Nlink)
		if info.Mode().IsRegular() {
			content, _ := os.ReadFile(path)
			fmt.Fprintf(&out, " %q", content)
		}
		fmt.Fprintf(&out, " %s %s", moment(stat.Atim.Sec), moment(stat.Mtim.Sec))
		if target, err := os.Readlink(path); err == nil {
			fmt.Fprintf(&out, " -> %s", target)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

type pairTest struct {
	name   string
	args   []string
	server Server
	run    func(p *pairSide)
	// differs says why lines differ, as docs/sftp.md does.
	differs map[string]string
}

const none = uint32(0) // attributes: none

// odd are paths that each request gets.
var odd = []string{
	"", ".", "..", "/", "file", "./file", "dir", "dir/", "file/", "file/x", "missing", "missing/x", "link", "dangling",
	"loop", "loop/x", "file/..", "file/.", "~", "~root", "a\xffb", "full", strings.Repeat("n", 256), strings.Repeat("long/", 1000), "dir/../file",
}

func perm(mode uint32) []byte { return binary.BigEndian.AppendUint32(be32(attrPerm), mode) }

func times(a, m uint32) []byte { return append(append(be32(attrTimes), be32(a)...), be32(m)...) }

func owner(uid, gid uint32) []byte {
	return append(append(be32(attrOwner), be32(uid)...), be32(gid)...)
}

func size(n uint64) []byte { return binary.BigEndian.AppendUint64(be32(attrSize), n) }

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func ext(name string) []byte { return appendString(nil, name) }

var pairTests = []pairTest{
	{name: "look", differs: map[string]string{
		`realpath "file/.."`: "a file has no parent by that name", `expand "file/.."`: "a file has no parent by that name",
		`realpath "file/."`: "a file is no directory", `expand "file/."`: "a file is no directory",
	}, run: func(p *pairSide) {
		for _, path := range odd {
			p.ask("stat "+short(path), typeStat, path)
			p.ask("lstat "+short(path), typeLstat, path)
			p.ask("readlink "+short(path), typeReadlink, path)
			p.ask("realpath "+short(path), typeRealpath, path)
			p.ask("expand "+short(path), typeExtended, ext("expand-path@openssh.com"), path)
			p.ask("opendir "+short(path), typeOpendir, path)
		}
	}},
	{name: "open", differs: exclusiveLoops(), run: func(p *pairSide) {
		for flags := uint32(1); flags < 64; flags++ {
			for _, path := range []string{"file", "new", "link", "dangling", "missing/x", "file/x", "loop"} {
				what := fmt.Sprintf("open %s %x", path, flags)
				a := p.ask(what, typeOpen, path, flags, none)
				if a.kind != typeHandle {
					continue
				}
				h := p.handleOf(a)
				p.ask(what+" read", typeRead, h, uint64(2), uint32(5))
				p.ask(what+" write", typeWrite, h, uint64(4), "XY")
				p.ask(what+" fstat", typeFstat, h)
				p.ask(what+" close", typeClose, h)
			}
			_ = os.Remove(filepath.Join(p.dir, "new"))
			_ = os.Remove(filepath.Join(p.dir, "nowhere"))
		}
		for _, mode := range []uint32{0, 0o600, 0o777, 0o4755, 0o2711, 0o1777, 0o100644} {
			name := fmt.Sprintf("mode%o", mode)
			p.ask("open "+name, typeOpen, name, uint32(openWrite|openCreate), perm(mode))
			p.ask("mkdir "+name, typeMkdir, name+".d", perm(mode))
		}
		p.ask("mkdir", typeMkdir, "plain", none)
	}},
	{name: "transfer", run: func(p *pairSide) {
		h := p.handleOf(p.ask("open", typeOpen, "file", uint32(openRead|openWrite), none))
		for _, at := range []uint64{0, 3, 17, 18, 19, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
			for _, n := range []uint32{1, 100, 1 << 18, 1<<32 - 1} {
				p.ask(fmt.Sprintf("read %d %d", at, n), typeRead, h, at, n)
			}
		}
		for _, at := range []uint64{0, 30, 1 << 63, 1<<64 - 1} {
			p.ask(fmt.Sprintf("write %d", at), typeWrite, h, at, "abc")
			p.ask(fmt.Sprintf("write nothing %d", at), typeWrite, h, at, "")
		}
		p.ask("fsync", typeExtended, ext("fsync@openssh.com"), h)
		p.ask("fsetstat size", typeFsetstat, h, size(10))
		p.ask("fsetstat times", typeFsetstat, h, times(1000, 2000))
		p.ask("fsetstat perm", typeFsetstat, h, perm(0o4711))
		p.ask("fsetstat owner", typeFsetstat, h, owner(1234, 1235))
		p.ask("fsetstat nothing", typeFsetstat, h, none)
		p.ask("fstat", typeFstat, h)
		p.ask("close", typeClose, h)
	}},
	{name: "handles", run: func(p *pairSide) {
		d := p.handleOf(p.ask("opendir", typeOpendir, "dir"))
		h := p.handleOf(p.ask("open", typeOpen, "file", uint32(openRead), none))
		p.onHandle("unknown", "\x7f\xff\xff\xff")
		p.onHandle("directory", d)
		p.ask("readdir of a file", typeReaddir, h)
		p.ask("write to one open for reading", typeWrite, h, uint64(0), "x")
		p.ask("close", typeClose, h)
		p.ask("close again", typeClose, h)
	}},
	{name: "names", run: func(p *pairSide) {
		for _, from := range []string{"file", "missing", "dir", "full", "link", "dangling", "loop", "", "file/"} {
			for _, to := range []string{"other", "new", "dir", "full", "missing/x", "file/x", "", "link"} {
				// OpenSSH's rename replaces a link to nowhere.
				if _, err := os.Stat(filepath.Join(p.dir, to)); err != nil && to != "" {
					_ = os.Remove(filepath.Join(p.dir, to))
				}
				p.ask("rename "+from+" "+to, typeRename, from, to)
				p.ask("posix-rename "+from+" "+to, typeExtended, ext("posix-rename@openssh.com"), from, to)
				p.ask("hardlink "+from+" "+to, typeExtended, ext("hardlink@openssh.com"), from, to)
				p.ask("symlink "+from+" "+to, typeSymlink, from, to)
			}
		}
	}},
	{name: "remove", run: func(p *pairSide) {
		for _, path := range odd {
			if path == ".." || path == "/" {
				continue
			}
			p.ask("remove "+short(path), typeRemove, path)
			p.ask("mkdir "+short(path), typeMkdir, path, none)
			p.ask("rmdir "+short(path), typeRmdir, path)
		}
	}},
	{name: "setstat", run: func(p *pairSide) {
		for _, path := range []string{"file", "dir", "link", "dangling", "missing", "loop", "", "file/x"} {
			for i, a := range [][]byte{size(5), perm(0o6751), times(5000, 6000), owner(1, 2), owner(1<<32-1, 3), be32(0), perm(0o6751), owner(1<<32-1, 1<<32-1)} {
				p.ask(fmt.Sprintf("setstat %q %d", path, i), typeSetstat, path, a)
				p.ask(fmt.Sprintf("lsetstat %q %d", path, i), typeExtended, ext("lsetstat@openssh.com"), path, a)
			}
		}
	}},
	{name: "extensions", differs: map[string]string{
		"home daemon":                   "OpenSSH 9.2 gives the session's own home for every user",
		"home 0":                        "a user may be named by number",
		"expand ~nobody-of-that-name/x": "the text names the code too",
	}, run: func(p *pairSide) {
		for _, user := range []string{"root", "daemon", "", "nobody-of-that-name", "0", "root:x", "~"} {
			p.ask("home "+user, typeExtended, ext("home-directory"), user)
		}
		for _, path := range []string{"~root", "~root/", "~root/x", "~daemon", "~nobody-of-that-name/x", "~/", "~//file", "~/file", "~/missing/x", "x/../file"} {
			p.ask("expand "+path, typeExtended, ext("expand-path@openssh.com"), path)
		}
		ids := append(be32(0), be32(4242)...)
		p.ask("names", typeExtended, ext("users-groups-by-id@openssh.com"), string(ids), string(be32(0)))
		p.ask("no names", typeExtended, ext("users-groups-by-id@openssh.com"), "", "")
		p.ask("statvfs", typeExtended, ext("statvfs@openssh.com"), "file")
		p.ask("statvfs missing", typeExtended, ext("statvfs@openssh.com"), "missing")
		p.ask("unknown", typeExtended, ext("x@example.com"))
		p.ask("limits", typeExtended, ext("limits@openssh.com"))
	}},
	{name: "copy-data", differs: map[string]string{
		"more than there is": "EOF, also when less than 64 KiB is missing",
		"behind the end":     "EOF, also when less than 64 KiB is missing",
	}, run: func(p *pairSide) {
		from := p.handleOf(p.ask("open", typeOpen, "file", uint32(openRead), none))
		again := p.handleOf(p.ask("open", typeOpen, "file", uint32(openRead|openWrite), none))
		to := p.handleOf(p.ask("open", typeOpen, "copy", uint32(openRead|openWrite|openCreate), none))
		copies := func(what, from string, at, n uint64, to string, offset uint64) {
			p.ask(what, typeExtended, ext("copy-data"), from, at, n, to, offset)
		}
		copies("all", from, 0, 0, to, 0)
		copies("part", from, 5, 4, to, 100)
		copies("more than there is", from, 5, 400, to, 200)
		copies("behind the end", from, 500, 1, to, 0)
		copies("nothing behind the end", from, 500, 0, to, 0)
		copies("the same handle", from, 0, 0, from, 0)
		copies("the same file", from, 0, 0, again, 0)
		copies("to one for reading", to, 0, 0, from, 0)
		copies("to nothing", to, 0, 0, "\x7f\xff\xff\xff", 0)
		copies("far away", from, 1<<63, 0, to, 0)
		p.ask("make empty", typeClose, p.handleOf(p.ask("open", typeOpen, "empty", uint32(openWrite|openCreate), none)))
		empty := p.handleOf(p.ask("open", typeOpen, "empty", uint32(openRead), none))
		copies("of an empty file", empty, 0, 0, to, 300)
		p.ask("write to what was empty", typeWrite, p.handleOf(p.ask("open", typeOpen, "empty", uint32(openWrite), none)), uint64(0), "news")
		copies("of what was empty", empty, 0, 0, to, 0)
		proc := p.handleOf(p.ask("open", typeOpen, "/proc/sys/kernel/ostype", uint32(openRead), none))
		copies("of a file of no size", proc, 0, 0, to, 20)
	}},
	{name: "read-only", args: []string{"-R"}, server: Server{ReadOnly: true}, run: func(p *pairSide) {
		for flags := uint32(0); flags < 64; flags++ {
			p.ask(fmt.Sprintf("open %x", flags), typeOpen, "file", flags, none)
		}
		p.ask("mkdir", typeMkdir, "new", none)
		p.ask("setstat", typeSetstat, "file", perm(0))
		p.ask("fsync", typeExtended, ext("fsync@openssh.com"), "\x00\x00\x00\x00")
		p.ask("lsetstat", typeExtended, ext("lsetstat@openssh.com"), "file", perm(0))
		p.ask("copy-data", typeExtended, ext("copy-data"))
		p.ask("statvfs", typeExtended, ext("statvfs@openssh.com"), "file")
	}},
}

// exclusiveLoops are the opens that insist on a new file at a link which leads
// to itself: fsops looks where it leads before it says that it exists.
func exclusiveLoops() map[string]string {
	lines := map[string]string{}
	for flags := range 64 {
		if flags&openCreate != 0 && flags&openExcl != 0 {
			lines[fmt.Sprintf("open loop %x", flags)] = "a loop of links is no such file"
		}
	}
	return lines
}

// onHandle asks for everything on a handle that is no file's.
func (p *pairSide) onHandle(name, h string) {
	p.ask(name+" read", typeRead, h, uint64(0), uint32(1))
	p.ask(name+" write", typeWrite, h, uint64(0), "x")
	p.ask(name+" fstat", typeFstat, h)
	p.ask(name+" fsetstat", typeFsetstat, h, perm(0o755))
	p.ask(name+" fstatvfs", typeExtended, ext("fstatvfs@openssh.com"), h)
	p.ask(name+" fsync", typeExtended, ext("fsync@openssh.com"), h)
	p.ask(name+" readdir", typeReaddir, h)
	p.ask(name+" close", typeClose, h)
}

func short(path string) string { return fmt.Sprintf("%.20q", path) }

// unixStat is what [fs.FileInfo.Sys] gives.
type unixStat = syscall.Stat_t

// TestPairListing compares a listing, entry by entry, whatever their order.
func TestPairListing(t *testing.T) {
	dir := t.TempDir()
	populate(t, dir)
	for i := range 250 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%0*d", 1+i%30, i)), strings.Repeat("x", i*i))
	}
	for name, mode := range map[string]uint32{"setuid": 0o4755, "setgid": 0o2644, "sticky": 0o1777, "sticky2": 0o1700, "both": 0o6000} {
		writeFile(t, filepath.Join(dir, name), "")
		if err := unix.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		unix.Lchown(filepath.Join(dir, "link"), 4242, 4243),
		os.Chtimes(filepath.Join(dir, "other"), time.Time{}, time.Now().Add(48*time.Hour)),
	} {
		if err != nil {
			t.Skipf("needs root: %v", err)
		}
	}
	ours, _ := startServer(t, dir, Server{})
	want, got := listing(newOpenSSH(t, dir)), listing(ours)
	for name, line := range want {
		if got[name] != line {
			t.Errorf("OpenSSH: %s\n     ours:    %s", line, got[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d names, OpenSSH has %d", len(got), len(want))
	}
}

func listing(c *client) map[string]string {
	c.t.Helper()
	c.hello()
	h := c.handleOf(c.call(typeOpendir, "."))
	names := map[string]string{}
	for {
		a := c.call(typeReaddir, h)
		if a.kind == typeStatus {
			if got := code(a.uint32()); got != codeEOF {
				c.t.Fatalf("readdir: %v", got)
			}
			return names
		}
		for n := a.uint32(); n > 0 && !a.bad; n-- {
			name, long := a.text(), a.text()
			names[name] = long + " | " + describeAttrs(&a.fields)
		}
	}
}
