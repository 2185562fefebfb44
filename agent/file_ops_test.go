//go:build linux

package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const oddName = "na\xefve-\xff.txt" // not UTF-8

// TestFileOperations goes through the life of some files, as the agent's own
// user and as another.
func TestFileOperations(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		ctx := testContext(t)
		dir := filepath.Join(c.dir, t.Name()[strings.IndexByte(t.Name(), '/')+1:])
		at := func(name string) string { return filepath.Join(dir, name) }

		for i, created := range []bool{true, false} {
			resp, err := c.Mkdir(ctx, &guestdv1.MkdirRequest{Context: as, Path: at("sub"), Parents: true, Mode: ptr(uint32(0o750))})
			if err != nil || resp.GetCreated() != created {
				t.Fatalf("mkdir %d: %v, %v", i, resp, err)
			}
		}
		wantOwner(t, at("sub"), uid, 0o750)
		c.put(t, as, at("file"), "hello")
		wantOwner(t, at("file"), uid, 0o644)

		check(t, "chmod")(c.Chmod(ctx, &guestdv1.ChmodRequest{Context: as, Path: at("file"), Mode: 0o4711}))
		wantOwner(t, at("file"), uid, 0o4711)
		check(t, "truncate")(c.Truncate(ctx, &guestdv1.TruncateRequest{Context: as, Path: at("file"), Size: 3}))
		wantContent(t, at("file"), []byte("hel"))

		check(t, "symlink")(c.Symlink(ctx, &guestdv1.SymlinkRequest{Context: as, Target: "sub/../file", Path: at("link")}))
		target, err := c.ReadLink(ctx, &guestdv1.ReadLinkRequest{Context: as, Path: at("link")})
		if err != nil || target.GetTarget() != "sub/../file" || target.RawTarget != nil {
			t.Errorf("readlink: %v, %v", target, err)
		}
		real, err := c.RealPath(ctx, &guestdv1.RealPathRequest{Context: as, Path: at("sub/../link")})
		if err != nil || real.GetPath() != at("file") {
			t.Errorf("realpath: %v, %v", real, err)
		}
		real, err = c.RealPath(ctx, &guestdv1.RealPathRequest{Context: as, Path: at("no/such"), AllowMissing: true})
		if err != nil || real.GetPath() != at("no/such") {
			t.Errorf("realpath of what is missing: %v, %v", real, err)
		}

		check(t, "link")(c.Link(ctx, &guestdv1.LinkRequest{Context: as, Target: at("file"), Path: at("second")}))
		check(t, "rename")(c.Rename(ctx, &guestdv1.RenameRequest{Context: as, From: at("second"), To: at("sub/third")}))
		c.put(t, as, at("other"), "other")
		check(t, "exchange")(c.Rename(ctx, &guestdv1.RenameRequest{Context: as, From: at("other"), To: at("sub/third"), Exchange: true}))
		wantContent(t, at("other"), []byte("hel"))

		copied, err := c.Copy(ctx, &guestdv1.CopyRequest{Context: as, From: at("sub"), To: at("copy"), Recursive: true})
		if err != nil || copied.GetFiles() != 1 || copied.GetBytes() != 5 {
			t.Errorf("copy: %v, %v", copied, err)
		}
		wantContent(t, at("copy/third"), []byte("other"))

		removed, err := c.Remove(ctx, &guestdv1.RemoveRequest{Context: as, Path: dir, Recursive: true})
		// file, link, other, sub, sub/third, copy, copy/third and dir itself
		if err != nil || removed.GetRemoved() != 8 {
			t.Errorf("remove: %v, %v", removed, err)
		}
		removed, err = c.Remove(ctx, &guestdv1.RemoveRequest{Context: as, Path: dir, IgnoreMissing: true})
		if err != nil || removed.GetRemoved() != 0 {
			t.Errorf("remove again: %v, %v", removed, err)
		}
	})
}

// TestFileStat compares what Stat says with what the kernel does.
func TestFileStat(t *testing.T) {
	c := serveFiles(t)
	ctx := testContext(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "some content")
	if err := os.Symlink(path, filepath.Join(c.dir, "link")); err != nil {
		t.Fatal(err)
	}
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Stat(ctx, &guestdv1.StatRequest{Context: &guestdv1.FileContext{Base: c.dir}, Path: "link"})
	if err != nil {
		t.Fatal(err)
	}
	got := resp.GetInfo()
	if got.GetName() != "link" || got.GetPath() != filepath.Join(c.dir, "link") ||
		got.GetType() != guestdv1.FileType_FILE_TYPE_REGULAR || got.GetMode() != want.Mode&0o7777 ||
		got.GetSize() != uint64(want.Size) || got.GetAllocatedBytes() != uint64(want.Blocks)*512 ||
		got.GetUid() != want.Uid || got.GetGid() != want.Gid || got.GetInode() != want.Ino ||
		got.GetDevice() != want.Dev || int(got.GetLinks()) != int(want.Nlink) ||
		!got.GetModifyTime().AsTime().Equal(time.Unix(want.Mtim.Unix())) ||
		!got.GetChangeTime().AsTime().Equal(time.Unix(want.Ctim.Unix())) || got.GetAccessTime() == nil {
		t.Errorf("got %v, want %+v", got, want)
	}
	resp, err = c.Stat(ctx, &guestdv1.StatRequest{Path: filepath.Join(c.dir, "link"), NoFollow: true})
	if got := resp.GetInfo(); err != nil || got.GetSymlinkTarget() != path || got.GetType() != guestdv1.FileType_FILE_TYPE_SYMLINK {
		t.Errorf("link itself: %v, %v", got, err)
	}
	resp, err = c.Stat(ctx, &guestdv1.StatRequest{Path: "/dev/null"})
	if got := resp.GetInfo(); err != nil || got.GetType() != guestdv1.FileType_FILE_TYPE_CHAR_DEVICE || got.GetSpecialDevice() != unix.Mkdev(1, 3) {
		t.Errorf("device: %v, %v", got, err)
	}
	if os.Getuid() == 0 && resp.GetInfo().GetOwner() != "root" {
		t.Errorf("owner of /dev/null: %q", resp.GetInfo().GetOwner())
	}

	var statfs unix.Statfs_t
	if err := unix.Statfs(c.dir, &statfs); err != nil {
		t.Fatal(err)
	}
	filesystem, err := c.StatFilesystem(ctx, &guestdv1.StatFilesystemRequest{Path: c.dir})
	if err != nil || filesystem.GetTotalBytes() != statfs.Blocks*uint64(statfs.Frsize) ||
		filesystem.GetNameMax() != uint64(statfs.Namelen) || filesystem.GetType() != uint64(uint32(statfs.Type)) ||
		filesystem.GetFreeBytes() == 0 || filesystem.GetReadOnly() {
		t.Errorf("filesystem: %v, %v, want %+v", filesystem, err, statfs)
	}
}

// TestFileOwnersAndTimes changes owners, for which it must be root, and times.
func TestFileOwnersAndTimes(t *testing.T) {
	c := serveFiles(t)
	ctx := testContext(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "")
	atime, mtime := time.Unix(12345, 678901234), time.Unix(1<<33, 1)
	check(t, "utime")(c.Utime(ctx, &guestdv1.UtimeRequest{
		Path: path, AccessTime: timestamppb.New(atime), ModifyTime: timestamppb.New(mtime),
	}))
	st := stat(t, path)
	if !time.Unix(st.Atim.Unix()).Equal(atime) || !time.Unix(st.Mtim.Unix()).Equal(mtime) {
		t.Errorf("times are %v and %v", st.Atim, st.Mtim)
	}
	before := time.Now().Add(-time.Minute)
	check(t, "touch")(c.Utime(ctx, &guestdv1.UtimeRequest{Path: path}))
	if st := stat(t, path); time.Unix(st.Mtim.Unix()).Before(before) || time.Unix(st.Atim.Unix()).Before(before) {
		t.Errorf("times are %v and %v after a touch", st.Atim, st.Mtim)
	}

	needRoot(t)
	check(t, "chown")(c.Chown(ctx, &guestdv1.ChownRequest{Path: path, Owner: "1234", Group: "daemon"}))
	if st := stat(t, path); st.Uid != 1234 || st.Gid != 1 {
		t.Errorf("owner is %d:%d", st.Uid, st.Gid)
	}
	check(t, "chgrp")(c.Chown(ctx, &guestdv1.ChownRequest{Path: path, Group: "77"}))
	if st := stat(t, path); st.Uid != 1234 || st.Gid != 77 {
		t.Errorf("owner is %d:%d", st.Uid, st.Gid)
	}
	_, err := c.Chown(ctx, &guestdv1.ChownRequest{Path: path, Owner: "no-such-user"})
	wantFailure(t, err, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER)
	_, err = c.Chown(ctx, &guestdv1.ChownRequest{Path: path, Group: "no-such-group"})
	wantFailure(t, err, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER)
}

// TestFileMakeTemp makes temporary files and directories.
func TestFileMakeTemp(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		ctx := testContext(t)
		seen := map[string]bool{}
		for range 3 {
			resp, err := c.MakeTemp(ctx, &guestdv1.MakeTempRequest{Context: as, Dir: c.dir, Pattern: "a*b"})
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(resp.GetPath())
			if seen[name] || !strings.HasPrefix(name, "a") || !strings.HasSuffix(name, "b") || len(name) < 10 {
				t.Errorf("name %q", name)
			}
			seen[name] = true
			wantOwner(t, resp.GetPath(), uid, 0o600)
		}
		resp, err := c.MakeTemp(ctx, &guestdv1.MakeTempRequest{Context: as, Directory: true})
		if err != nil || !strings.HasPrefix(resp.GetPath(), "/tmp/tmp-") {
			t.Fatalf("%v, %v", resp, err)
		}
		wantOwner(t, resp.GetPath(), uid, 0o700)
		check(t, "remove")(c.Remove(ctx, &guestdv1.RemoveRequest{Context: as, Path: resp.GetPath()}))
	})
}

// TestFileOddNames carries names that are not UTF-8 through everything that
// takes or gives one.
func TestFileOddNames(t *testing.T) {
	c := serveFiles(t)
	ctx := testContext(t)
	raw := []byte(filepath.Join(c.dir, oddName))
	const shown = `na\xEFve-\xFF.txt`
	if _, err := c.upload(ctx, &guestdv1.WriteStart{RawPath: raw}, []byte("x"), 10, nil); err != nil {
		t.Fatal(err)
	}
	wantContent(t, string(raw), []byte("x"))

	resp, err := c.Stat(ctx, &guestdv1.StatRequest{RawPath: raw, Path: "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	info := resp.GetInfo()
	if info.GetName() != shown || !bytes.Equal(info.GetRawName(), []byte(oddName)) ||
		info.GetPath() != filepath.Join(c.dir, shown) || !bytes.Equal(info.GetRawPath(), raw) {
		t.Errorf("stat: %v", info)
	}
	list, err := c.ReadDir(ctx, &guestdv1.ReadDirRequest{Path: c.dir})
	if err != nil || len(list.GetEntries()) != 1 || string(list.GetEntries()[0].GetRawName()) != oddName || list.GetEntries()[0].GetName() != shown {
		t.Errorf("readdir: %v, %v", list, err)
	}

	link := []byte(filepath.Join(c.dir, "l\xfe"))
	check(t, "symlink")(c.Symlink(ctx, &guestdv1.SymlinkRequest{RawTarget: []byte(oddName), RawPath: link}))
	target, err := c.ReadLink(ctx, &guestdv1.ReadLinkRequest{RawPath: link})
	if err != nil || string(target.GetRawTarget()) != oddName || target.GetTarget() != shown {
		t.Errorf("readlink: %v, %v", target, err)
	}
	real, err := c.RealPath(ctx, &guestdv1.RealPathRequest{RawPath: link})
	if err != nil || !bytes.Equal(real.GetRawPath(), raw) {
		t.Errorf("realpath: %v, %v", real, err)
	}
	walked := c.walk(t, &guestdv1.WalkRequest{Path: c.dir})
	names := []string{}
	for _, entry := range walked {
		names = append(names, string(entry.GetRawPath()))
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"l\xfe", oddName}) {
		t.Errorf("walk: %q", names)
	}
	check(t, "rename")(c.Rename(ctx, &guestdv1.RenameRequest{RawFrom: raw, To: filepath.Join(c.dir, "plain")}))
	wantContent(t, filepath.Join(c.dir, "plain"), []byte("x"))
	_, err = c.Remove(ctx, &guestdv1.RemoveRequest{RawPath: raw})
	wantFailure(t, err, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND,
		"path", filepath.Join(c.dir, shown), "errno", "ENOENT")
}

// TestFileBase resolves relative paths and tildes.
func TestFileBase(t *testing.T) {
	c := serveFiles(t)
	ctx := testContext(t)
	c.put(t, nil, filepath.Join(c.dir, "file"), "x")
	for _, base := range []*guestdv1.FileContext{{Base: c.dir}, {RawBase: []byte(c.dir + "/")}} {
		resp, err := c.RealPath(ctx, &guestdv1.RealPathRequest{Context: base, Path: "file"})
		if err != nil || resp.GetPath() != filepath.Join(c.dir, "file") {
			t.Errorf("%v: %v, %v", base, resp, err)
		}
	}
	resp, err := c.RealPath(ctx, &guestdv1.RealPathRequest{Context: &guestdv1.FileContext{Base: c.dir}})
	if err != nil || resp.GetPath() != c.dir {
		t.Errorf("the base itself: %v, %v", resp, err)
	}
	needRoot(t)
	for _, path := range []string{"~daemon", "~root/../usr/sbin"} {
		resp, err := c.RealPath(ctx, &guestdv1.RealPathRequest{Path: path, AllowMissing: true})
		if err != nil || resp.GetPath() != "/usr/sbin" {
			t.Errorf("%s: %v, %v", path, resp, err)
		}
	}
	daemon := &guestdv1.FileContext{User: "daemon"}
	resp, err = c.RealPath(ctx, &guestdv1.RealPathRequest{Context: daemon, Path: "x", AllowMissing: true})
	if err != nil || resp.GetPath() != "/usr/sbin/x" {
		t.Errorf("daemon's home: %v, %v", resp, err)
	}
}

// ptr is for optional fields.
func ptr[T any](v T) *T { return &v }

// check makes a test of a call whose response says nothing.
func check(t testing.TB, what string) func(resp any, err error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// stat is lstat(2).
func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatalf("lstat %s: %v", path, err)
	}
	return &st
}

// wantOwner checks owner and permission bits.
func wantOwner(t testing.TB, path string, uid int, mode uint32) {
	t.Helper()
	st := stat(t, path)
	if int(st.Uid) != uid || st.Mode&0o7777 != mode {
		t.Errorf("%s belongs to %d with mode 0%o, want %d and 0%o", path, st.Uid, st.Mode&0o7777, uid, mode)
	}
}
