//go:build linux

package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVersion(t *testing.T) {
	c, served := startServer(t, t.TempDir(), Server{})
	got := c.hello()
	want := map[string]string{
		"posix-rename@openssh.com": "1", "statvfs@openssh.com": "2", "fstatvfs@openssh.com": "2",
		"hardlink@openssh.com": "1", "fsync@openssh.com": "1", "lsetstat@openssh.com": "1", "limits@openssh.com": "1",
		"expand-path@openssh.com": "1", "copy-data": "1", "home-directory": "1", "users-groups-by-id@openssh.com": "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("extensions %v", got)
	}
	c.conn.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestTransfer(t *testing.T) {
	dir := t.TempDir()
	c := newClient(t, dir, Server{})
	big := strings.Repeat("0123456789abcdef", maxTransfer/16)
	h := c.open("f", openWrite|openCreate|openTrunc|openRead, uint32(attrPerm), uint32(0o666))
	// All in flight at once, in no order of offsets.
	const pieces = 20
	ids := map[uint32]bool{}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range pieces {
			id := uint32(1000 + i)
			c.write(packet(typeWrite, id, h, uint64(pieces-1-i)*maxTransfer, big))
		}
	}()
	for range pieces {
		a := c.receive()
		if got := c.statusOf(a); got != codeOK || ids[a.id] {
			t.Fatalf("write %d: %v", a.id, got)
		}
		ids[a.id] = true
	}
	<-sent
	if got := readFile(t, dir, "f"); got != strings.Repeat(big, pieces) {
		t.Fatalf("%d bytes, not those that were sent", len(got))
	}
	if info, _ := os.Stat(filepath.Join(dir, "f")); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	for i := range pieces {
		c.send(typeRead, h, uint64(i)*maxTransfer, uint32(1<<20))
	}
	for range pieces {
		if a := c.receive(); a.kind != typeData || string(a.bytes()) != big {
			t.Fatalf("read %d: type %d, or other bytes", a.id, a.kind)
		}
	}
	if got := c.status(typeRead, h, uint64(pieces*maxTransfer), uint32(1)); got != codeEOF {
		t.Errorf("read behind the end: %v", got)
	}
	if got := c.status(typeClose, h); got != codeOK {
		t.Errorf("close: %v", got)
	}
	if got := c.status(typeRead, h, uint64(0), uint32(1)); got != codeFailure {
		t.Errorf("read of a closed handle: %v", got)
	}
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "log"), "one\n")
	c := newClient(t, dir, Server{})
	h := c.open("log", openWrite|openAppend)
	for _, line := range []string{"two\n", "three\n"} {
		if got := c.status(typeWrite, h, uint64(0), line); got != codeOK {
			t.Fatal(got)
		}
	}
	if got := readFile(t, dir, "log"); got != "one\ntwo\nthree\n" {
		t.Errorf("%q", got)
	}
}

// A FIFO that nobody reads holds up its own requests, and no others; the end of
// the session frees it.
func TestBlockedFIFO(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writeFile(t, filepath.Join(dir, "f"), "x")

	c, served := startServer(t, dir, Server{})
	c.hello()
	if got := c.status(typeOpen, "missing-dir/fifo", uint32(openRead), uint32(0)); got != codeNoSuchFile {
		t.Error(got)
	}
	read := c.open("fifo", openRead)
	if got := c.status(typeRead, read, uint64(0), uint32(1)); got != codeFailure {
		t.Errorf("read of a FIFO: %v", got)
	}
	h := c.open("fifo", openWrite|openAppend)
	const more = 1 << 17 // than a pipe holds
	blocked := c.send(typeWrite, h, uint64(0), strings.Repeat("x", more))
	closing := c.send(typeClose, h)
	for range 10 {
		if a := c.call(typeStat, "f"); a.kind != typeAttrs {
			t.Fatalf("stat beside a blocked write: type %d", a.kind)
		}
	}
	if n, err := io.ReadFull(reader, make([]byte, more)); err != nil {
		t.Fatalf("%d bytes came through: %v", n, err)
	}
	for _, id := range []uint32{blocked, closing} {
		if a := c.receive(); a.id != id || c.statusOf(a) != codeOK {
			t.Fatalf("answer to %d, not %d", a.id, id)
		}
	}

	h = c.open("fifo", openWrite|openAppend)
	c.send(typeWrite, h, uint64(0), strings.Repeat("x", more))
	c.call(typeStat, "f")
	c.conn.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A copy of a file into itself would never end, whatever the file is called.
func TestCopyIntoItself(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "abc")
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, dir, Server{})
	from := c.open("f", openRead)
	for _, name := range []string{"g", "./f"} {
		to := c.open(name, openWrite)
		if got := c.status(typeExtended, "copy-data", from, uint64(0), uint64(0), to, uint64(3)); got != codeFailure {
			t.Errorf("as %s: %v", name, got)
		}
	}
	if got := readFile(t, dir, "f"); got != "abc" {
		t.Errorf("the file is %.40q", got)
	}
}

func TestHandleLimit(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "x")
	var ops []Op
	c, served := startServer(t, dir, Server{MaxHandles: 3, Audit: func(op Op) { ops = append(ops, op) }})
	c.hello()
	for range 2 {
		c.open("f", openRead)
	}
	d := c.handleOf(c.call(typeOpendir, "."))
	a := c.call(typeOpen, "f", uint32(openRead), uint32(0))
	if got := code(a.uint32()); got != codeFailure || !strings.Contains(string(a.bytes()), "limit is 3") {
		t.Errorf("over the limit: %v", got)
	}
	if got := c.status(typeClose, d); got != codeOK {
		t.Fatal(got)
	}
	c.open("f", openRead)
	c.conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	forced := 0
	for _, op := range ops {
		if op.Request == "close" && op.Forced {
			forced++
		}
	}
	if forced != 3 || len(ops) != 3+1+1+1+3 {
		t.Errorf("%d forced closes of %d operations: %+v", forced, len(ops), ops)
	}
}

// budget is a Budget that is not shared.
type budget struct{ left int }

func (b *budget) Take(n int) bool {
	if b.left < n {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) Give(n int) { b.left += n }

// Whatever opens, fails to open, and closes, the budget is whole at the end.
func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "x")
	b := &budget{left: 3}
	c, served := startServer(t, dir, Server{Descriptors: b})
	c.hello()
	c.open("f", openRead)
	c.open("f", openRead)
	for _, missing := range []uint8{typeOpen, typeOpendir} {
		if got := c.status(missing, "none", uint32(openRead), uint32(0)); got != codeNoSuchFile {
			t.Errorf("what is not there: %v", got)
		}
	}
	d := c.handleOf(c.call(typeOpendir, "."))
	for _, kind := range []uint8{typeOpen, typeOpendir} {
		a := c.call(kind, "f", uint32(openRead), uint32(0))
		if got := code(a.uint32()); got != codeFailure || !strings.Contains(string(a.bytes()), "too many") {
			t.Errorf("over the budget: %v", got)
		}
	}
	if got := c.status(typeClose, d); got != codeOK {
		t.Fatal(got)
	}
	c.open("f", openRead)
	c.conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if b.left != 3 {
		t.Errorf("%d are left of 3", b.left)
	}
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "x")
	c := newClient(t, dir, Server{ReadOnly: true})
	for name, got := range map[string]code{
		"open to write": c.status(typeOpen, "f", uint32(openWrite), uint32(0)),
		"open to cut":   c.status(typeOpen, "f", uint32(openRead|openTrunc), uint32(0)),
		"open to make":  c.status(typeOpen, "g", uint32(openRead|openCreate), uint32(0)),
		"remove":        c.status(typeRemove, "f"),
		"rename":        c.status(typeRename, "f", "g"),
		"setstat":       c.status(typeSetstat, "f", uint32(attrPerm), uint32(0)),
		"mkdir":         c.status(typeMkdir, "d", uint32(0)),
		"posix-rename":  c.status(typeExtended, "posix-rename@openssh.com", "f", "g"),
	} {
		if got != codePermissionDenied {
			t.Errorf("%s: %v", name, got)
		}
	}
	h := c.open("f", openRead)
	if a := c.call(typeRead, h, uint64(0), uint32(9)); a.kind != typeData || string(a.bytes()) != "x" {
		t.Error("cannot read")
	}
}

// Whatever is no SFTP ends the session; a packet that is too short is answered.
func TestMalformed(t *testing.T) {
	for name, p := range map[string][]byte{
		"before INIT":   packet(typeStat, uint32(1), "f"),
		"empty":         {0, 0, 0, 0},
		"huge":          {0xff, 0xff, 0xff, 0xff, 1},
		"over 256 KiB":  {0, 4, 0, 1, 1},
		"cut in length": {0, 0},
	} {
		c, served := startServer(t, t.TempDir(), Server{})
		c.write(p)
		closeWrite(t, c)
		if a, err := c.tryReceive(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: answer %v, %v", name, a, err)
		}
		if err := <-served; err == nil {
			t.Errorf("%s: Serve is content", name)
		}
	}
	c := newClient(t, t.TempDir(), Server{})
	for _, r := range requests {
		if r.name == "limits" {
			continue
		}
		ext := []any{}
		if r.kind == typeExtended {
			ext = append(ext, r.ext)
		}
		if got := c.status(r.kind, append(ext, []byte{0, 0, 1})...); got != codeBadMessage {
			t.Errorf("%s, cut: %v", r.name, got)
		}
	}
	for _, kind := range []byte{0, 99, typeStatus, 255} {
		if got := c.status(kind); got != codeOpUnsupported {
			t.Errorf("request %d: %v", kind, got)
		}
	}
	if got := c.status(typeExtended, "nobody@example.com"); got != codeOpUnsupported {
		t.Errorf("unknown extension: %v", got)
	}
	if got := c.status(typeStat, "a\x00b"); got != codeBadMessage {
		t.Errorf("NUL in a path: %v", got)
	}
}

// TestCutRequests cuts each request at each byte, and has each of its lengths
// promise more than there is. All are answered, once, and the session goes on.
func TestCutRequests(t *testing.T) {
	for i := range requests {
		r := &requests[i]
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			populateForFuzz(t, dir)
			c := newClient(t, dir, Server{})
			for _, p := range opened() {
				c.write(p)
				c.handleOf(c.receive())
			}
			whole := r.packet(0, wellFormed(r))
			begin := lengthSize + 1 + 4 // behind the id
			ask := func(what string, body []byte) {
				t.Helper()
				id := c.send(r.kind, body)
				if a := c.receive(); a.id != id {
					t.Fatalf("%s: answer to %d, not %d", what, a.id, id)
				}
			}
			for at := begin; at <= len(whole)-4; at++ {
				for _, length := range []uint32{1<<32 - 1, 1<<31 - 1, 1 << 31, 1 << 18, 0} {
					bent := bytes.Clone(whole)
					binary.BigEndian.PutUint32(bent[at:], length)
					ask(fmt.Sprintf("%d at %d", length, at), bent[begin:])
				}
			}
			for n := begin; n <= len(whole); n++ {
				ask(fmt.Sprintf("%d bytes", n), whole[begin:n])
			}
			ask("more than it has", append(whole[begin:], "more"...))
			if a := c.call(typeStat, "."); a.kind != typeAttrs {
				t.Errorf("afterwards: type %d", a.kind)
			}
		})
	}
}

func closeWrite(t *testing.T, c *client) {
	t.Helper()
	if err := c.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// The end of the context ends a session that waits for its client, to read or
// to be read.
func TestContext(t *testing.T) {
	for _, reads := range []bool{true, false} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "f"), strings.Repeat("x", maxTransfer))
		ctx, cancel := context.WithCancel(context.Background())
		near, far := socketPair(t)
		defer near.Close()
		served := make(chan error, 1)
		server := Server{Files: ownFiles(t, dir)}
		go func() { served <- server.Serve(ctx, far) }()
		c := &client{t: t, conn: near}
		c.hello()
		if !reads {
			// It takes no more when its answers are not read.
			h := c.open("f", openRead)
			written := make(chan struct{})
			go func() {
				defer close(written)
				for {
					if _, err := near.Write(packet(typeRead, uint32(1), h, uint64(0), uint32(maxTransfer))); err != nil {
						return
					}
				}
			}()
			defer func() { <-written }()
			if _, err := c.conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	}
}

// A session has the rights of its user, also for a file that is open.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "roots"), "x")
	if err := os.Mkdir(filepath.Join(dir, "theirs"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "theirs"), 65534, 65533); err != nil {
		t.Fatal(err)
	}
	umask := uint32(0o077)
	c := newClient(t, dir, Server{Files: nobodysFiles(t, dir), Umask: &umask})
	if got := c.status(typeSetstat, "theirs", perm(0o700)); got != codeOK {
		t.Fatal(got)
	}
	h := c.open("theirs/f", openWrite|openCreate, uint32(attrPerm), uint32(0o777))
	if got := c.status(typeWrite, h, uint64(0), "x"); got != codeOK {
		t.Fatal(got)
	}
	info, err := os.Stat(filepath.Join(dir, "theirs", "f"))
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*unixStat); stat.Uid != 65534 || stat.Gid != 65533 || info.Mode().Perm() != 0o700 {
		t.Errorf("%d:%d %v", stat.Uid, stat.Gid, info.Mode())
	}
	for name, got := range map[string]code{
		"write":  c.status(typeOpen, "roots", uint32(openWrite), none),
		"remove": c.status(typeRemove, "roots"),
		"chown":  c.status(typeSetstat, "theirs/f", owner(0, 0)),
		"fchown": c.status(typeFsetstat, h, owner(0, 0)),
		"mkdir":  c.status(typeMkdir, "d", none),
		"agent":  c.status(typeOpen, "/proc/self/environ", uint32(openRead), none),
	} {
		if got != codePermissionDenied {
			t.Errorf("%s: %v", name, got)
		}
	}
}
