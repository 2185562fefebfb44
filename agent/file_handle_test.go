//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const stale = guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE

// open opens a file for reading and writing.
func (c *fileClient) open(t testing.TB, as *guestdv1.FileContext, path string) string {
	t.Helper()
	resp, err := c.OpenFile(testContext(t), &guestdv1.OpenFileRequest{
		Context: as, Path: path, Read: true, Write: true, Create: true, Permissions: ptr(uint32(0o600)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetHandle()
}

// TestFileHandle goes through the life of an open file.
func TestFileHandle(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		ctx := testContext(t)
		path := filepath.Join(c.dir, fmt.Sprint("file", uid))
		handle := c.open(t, as, path)
		wantOwner(t, path, uid, 0o600)

		check(t, "write")(c.WriteFile(ctx, &guestdv1.WriteFileRequest{Handle: handle, Data: []byte("hello world")}))
		check(t, "write at")(c.WriteFile(ctx, &guestdv1.WriteFileRequest{Handle: handle, Data: []byte("W"), Offset: ptr(uint64(6))}))
		wantContent(t, path, []byte("hello World"))
		read, err := c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: handle})
		if err != nil || len(read.GetData()) != 0 || !read.GetEof() {
			t.Errorf("read at the end: %v, %v", read, err)
		}
		read, err = c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: handle, Offset: ptr(uint64(6)), Length: 3})
		if err != nil || string(read.GetData()) != "Wor" || read.GetEof() {
			t.Errorf("read at: %v, %v", read, err)
		}
		for _, seek := range []struct {
			whence guestdv1.Whence
			offset int64
			want   uint64
		}{
			{guestdv1.Whence_WHENCE_START, 3, 3},
			{guestdv1.Whence_WHENCE_CURRENT, 1, 4},
			{guestdv1.Whence_WHENCE_END, -3, 8},
			{guestdv1.Whence_WHENCE_DATA, 2, 2},
			{guestdv1.Whence_WHENCE_HOLE, 2, 11},
			{guestdv1.Whence_WHENCE_UNSPECIFIED, 5, 5},
		} {
			got, err := c.SeekFile(ctx, &guestdv1.SeekFileRequest{Handle: handle, Whence: seek.whence, Offset: seek.offset})
			if err != nil || got.GetPosition() != seek.want {
				t.Errorf("%+v: %v, %v", seek, got, err)
			}
		}
		read, err = c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: handle, Length: 1 << 20})
		if err != nil || string(read.GetData()) != " World" || !read.GetEof() {
			t.Errorf("read the rest: %v, %v", read, err)
		}
		check(t, "truncate")(c.TruncateFile(ctx, &guestdv1.TruncateFileRequest{Handle: handle, Size: 5}))
		check(t, "sync")(c.SyncFile(ctx, &guestdv1.SyncFileRequest{Handle: handle}))
		check(t, "sync data")(c.SyncFile(ctx, &guestdv1.SyncFileRequest{Handle: handle, DataOnly: true}))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		info, err := c.StatFile(ctx, &guestdv1.StatFileRequest{Handle: handle})
		if err != nil || info.GetInfo().GetSize() != 5 || info.GetInfo().GetLinks() != 0 || info.GetInfo().GetUid() != uint32(uid) {
			t.Errorf("stat of a removed file: %v, %v", info, err)
		}
		check(t, "close")(c.CloseFile(ctx, &guestdv1.CloseFileRequest{Handle: handle}))
		_, err = c.CloseFile(ctx, &guestdv1.CloseFileRequest{Handle: handle})
		wantFailure(t, err, codes.FailedPrecondition, stale)
		_, err = c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: handle})
		wantFailure(t, err, codes.FailedPrecondition, stale)
	})
}

// TestFileHandleRequests sends requests that an open file cannot fulfil.
func TestFileHandleRequests(t *testing.T) {
	c := serveFiles(t)
	ctx := testContext(t)
	path := filepath.Join(c.dir, "file")
	handle := c.open(t, nil, path)
	_, err := c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: handle, Length: 1<<20 + 1})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.WriteFile(ctx, &guestdv1.WriteFileRequest{Handle: handle, Data: make([]byte, 1<<20+1)})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.WriteFile(ctx, &guestdv1.WriteFileRequest{Handle: handle, Offset: ptr(uint64(1 << 63))})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.SeekFile(ctx, &guestdv1.SeekFileRequest{Handle: handle, Whence: 99})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.SeekFile(ctx, &guestdv1.SeekFileRequest{Handle: handle, Offset: -1})
	wantFailure(t, err, codes.InvalidArgument, systemSays, "errno", "EINVAL")
	_, err = c.SeekFile(ctx, &guestdv1.SeekFileRequest{Handle: handle, Whence: guestdv1.Whence_WHENCE_DATA})
	wantFailure(t, err, codes.FailedPrecondition, systemSays, "errno", "ENXIO")
	_, err = c.LockFile(ctx, &guestdv1.LockFileRequest{Handle: handle})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.StatFile(ctx, &guestdv1.StatFileRequest{})
	wantFailure(t, err, codes.InvalidArgument, invalid)

	appending, err := c.OpenFile(ctx, &guestdv1.OpenFileRequest{Path: path, Write: true, Append: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.WriteFile(ctx, &guestdv1.WriteFileRequest{Handle: appending.GetHandle(), Offset: ptr(uint64(0)), Data: []byte("x")})
	wantFailure(t, err, codes.InvalidArgument, invalid)
	_, err = c.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: appending.GetHandle()})
	wantFailure(t, err, codes.Internal, systemSays, "errno", "EBADF")
}

// TestFileHandleOwner uses handles of other connections and other boots.
func TestFileHandleOwner(t *testing.T) {
	c := serveFiles(t)
	other := dialFiles(t, c.socket)
	handle := c.open(t, nil, filepath.Join(c.dir, "file"))
	boot, name, ok := strings.Cut(handle, "/")
	if !ok || len(name) < 26 {
		t.Fatalf("handle %q", handle)
	}
	for what, call := range map[string]func() error{
		"another connection": func() error {
			_, err := other.StatFile(testContext(t), &guestdv1.StatFileRequest{Handle: handle})
			return err
		},
		"another connection closes": func() error {
			_, err := other.CloseFile(testContext(t), &guestdv1.CloseFileRequest{Handle: handle})
			return err
		},
		"another boot": func() error {
			_, err := c.StatFile(testContext(t), &guestdv1.StatFileRequest{Handle: "not-" + boot + "/" + name})
			return err
		},
		"a guess": func() error {
			_, err := c.StatFile(testContext(t), &guestdv1.StatFileRequest{Handle: boot + "/" + strings.Repeat("A", len(name))})
			return err
		},
		"no handle": func() error {
			_, err := c.StatFile(testContext(t), &guestdv1.StatFileRequest{Handle: "/etc/passwd"})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) { wantFailure(t, call(), codes.FailedPrecondition, stale) })
	}
	check(t, "the owner's")(c.StatFile(testContext(t), &guestdv1.StatFileRequest{Handle: handle}))
}

// TestFileHandlesFreed counts descriptors when a connection ends with files
// open, locks held, and reads waiting.
func TestFileHandlesFreed(t *testing.T) {
	c := serveFiles(t)
	check(t, "warm up")(c.Stat(testContext(t), &guestdv1.StatRequest{Path: "/"}))
	before := openFDs(t)
	path := filepath.Join(c.dir, "file")
	fifo := filepath.Join(c.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	other := dialFiles(t, c.socket)
	const count = 100
	for range count {
		other.open(t, nil, path)
	}
	locked := other.open(t, nil, path)
	lock := &guestdv1.LockFileRequest{Handle: locked, Type: guestdv1.LockType_LOCK_TYPE_EXCLUSIVE}
	check(t, "lock")(other.LockFile(testContext(t), lock))
	opened, err := other.OpenFile(testContext(t), &guestdv1.OpenFileRequest{Path: fifo, Read: true, AllowSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := other.ReadFile(context.Background(), &guestdv1.ReadFileRequest{Handle: opened.GetHandle()})
		waits <- err
	}()
	if n := openFDs(t); n < before+count {
		t.Errorf("%d descriptors, were %d", n, before)
	}
	release(other.conn)
	if err := <-waits; status.Code(err) != codes.Canceled {
		t.Errorf("the read that waited: %v", err)
	}
	eventually(t, "the files are closed", func() bool { return openFDs(t) <= before })
	lock.Handle = c.open(t, nil, path)
	check(t, "lock what was locked")(c.LockFile(testContext(t), lock))
}

// TestFileHandleLimit opens too many files.
func TestFileHandleLimit(t *testing.T) {
	const limit = 5
	h := newFileHandles("boot", limit)
	for range limit {
		if err := h.reserve(); err != nil {
			t.Fatal(err)
		}
	}
	wantFailure(t, statusError(h.reserve()), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED)
	h.unreserve()
	if err := h.reserve(); err != nil {
		t.Error(err)
	}

	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	var err error
	for opened := 0; err == nil && opened <= maxOpenFiles; opened++ {
		_, err = c.OpenFile(testContext(t), &guestdv1.OpenFileRequest{Path: path, Write: true, Create: true})
	}
	wantFailure(t, err, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED)
	check(t, "what needs no handle")(c.Stat(testContext(t), &guestdv1.StatRequest{Path: path}))
	release(c.conn)
	again := dialFiles(t, c.socket)
	eventually(t, "the places are free again", func() bool {
		_, err := again.OpenFile(testContext(t), &guestdv1.OpenFileRequest{Path: path, Write: true})
		return err == nil
	})
}

// TestFileHandleLocks has two handles compete.
func TestFileHandleLocks(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	one, two := c.open(t, nil, path), c.open(t, nil, path)
	lock := func(handle string, kind guestdv1.LockType, from, length uint64, wait time.Duration) error {
		_, err := c.LockFile(testContext(t), &guestdv1.LockFileRequest{
			Handle: handle, Type: kind, Offset: from, Length: length, Wait: durationpb.New(wait),
		})
		return err
	}
	const (
		shared    = guestdv1.LockType_LOCK_TYPE_SHARED
		exclusive = guestdv1.LockType_LOCK_TYPE_EXCLUSIVE
		unlock    = guestdv1.LockType_LOCK_TYPE_UNLOCK
		locked    = guestdv1.ErrorReason_ERROR_REASON_LOCKED
	)
	for _, handle := range []string{one, two} {
		if err := lock(handle, shared, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}
	wantFailure(t, lock(one, exclusive, 0, 0, 0), codes.Aborted, locked, "path", path)
	wantFailure(t, lock(one, exclusive, 0, 0, 20*time.Millisecond), codes.Aborted, locked, "path", path)
	if err := lock(two, unlock, 0, 10, 0); err != nil {
		t.Error(err)
	}
	if err := lock(one, exclusive, 0, 10, 0); err != nil {
		t.Error(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- lock(two, exclusive, 5, 1, patience) }()
	if err := lock(one, unlock, 0, 0, 0); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		_, err := c.LockFile(ctx, &guestdv1.LockFileRequest{Handle: one, Type: exclusive, Wait: durationpb.New(time.Hour)})
		waited <- err
	}()
	cancel()
	if err := <-waited; status.Code(err) != codes.Canceled {
		t.Errorf("a wait that was cancelled: %v", err)
	}
}
