//go:build linux

package microvm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// The types of a file in st_mode (inode(7)).
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
	typeCharacter = 0o020000
)

// archive writes the cpio format that the kernel unpacks as initramfs ("newc",
// Documentation/driver-api/early-userspace/buffer-format.rst). Methods do nothing after the first error, which close
// returns.
type archive struct {
	w     *bufio.Writer
	size  int64
	inode int
	owner int // uid and gid of what is added next
	dirs  map[string]bool
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{".": true}}
}

// directory adds a directory and those above it, once.
func (a *archive) directory(name string, perm uint32) {
	name = clean(name)
	if a.dirs[name] {
		return
	}
	a.parents(name)
	a.dirs[name] = true
	a.header(name, typeDirectory|perm, 0, 0, 0)
}

func (a *archive) parents(name string) {
	if parent := path.Dir(name); !a.dirs[parent] {
		a.directory(parent, 0o755)
	}
}

func (a *archive) symlink(name, target string) {
	name = clean(name)
	a.parents(name)
	a.header(name, typeSymlink|0o777, int64(len(target)), 0, 0)
	a.write(target)
	a.pad()
}

// character adds a character device. The kernel makes it while unpacking, so
// that nobody needs rights here.
func (a *archive) character(name string, perm uint32, major, minor int) {
	name = clean(name)
	a.parents(name)
	a.header(name, typeCharacter|perm, 0, major, minor)
}

func (a *archive) bytes(name string, perm uint32, content string) {
	a.content(name, perm, strings.NewReader(content), int64(len(content)))
}

// file adds the content of a file of this machine, following symlinks.
func (a *archive) file(name string, perm uint32, source string) {
	f, err := os.Open(source)
	if err != nil {
		a.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.fail(err)
		return
	}
	a.content(name, perm, f, info.Size())
}

func (a *archive) content(name string, perm uint32, r io.Reader, size int64) {
	name = clean(name)
	a.parents(name)
	a.header(name, typeRegular|perm, size, 0, 0)
	if a.err != nil {
		return
	}
	n, err := io.CopyN(a.w, r, size)
	a.size += n
	if err != nil {
		a.fail(fmt.Errorf("add %s: %w", name, err))
	}
	a.pad()
}

// close writes the trailer and returns the first error of any call.
func (a *archive) close() error {
	a.inode = -1
	a.header("TRAILER!!!", 0, 0, 0, 0)
	if a.err == nil {
		a.err = a.w.Flush()
	}
	return a.err
}

func (a *archive) header(name string, mode uint32, size int64, major, minor int) {
	if size>>32 != 0 {
		a.fail(fmt.Errorf("add %s: %d bytes do not fit into the format", name, size))
		return
	}
	a.inode++
	links := 1
	if mode&typeDirectory != 0 {
		links = 2
	}
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, dev major and minor,
	// rdev major and minor, namesize with its NUL, check.
	a.write(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, a.owner, a.owner, links, 0, size, 0, 0, major, minor, len(name)+1, 0))
	a.write(name + "\x00")
	a.pad()
}

func (a *archive) write(s string) {
	if a.err != nil {
		return
	}
	n, err := a.w.WriteString(s)
	a.size += int64(n)
	a.fail(err)
}

// pad aligns to four bytes.
func (a *archive) pad() {
	a.write("\x00\x00\x00"[:-a.size&3])
}

func (a *archive) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// clean makes an absolute or relative guest path the name of an entry.
func clean(name string) string {
	return path.Clean(strings.TrimLeft(name, "/"))
}
