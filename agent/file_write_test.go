//go:build linux

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const (
	sha256Sum = guestdv1.ChecksumType_CHECKSUM_TYPE_SHA256
	crc32cSum = guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C
)

// sumOf computes a checksum.
func sumOf(kind guestdv1.ChecksumType, data []byte) *guestdv1.Checksum {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if kind == sha256Sum {
		s := sha256.Sum256(data)
		return &guestdv1.Checksum{Type: kind, Value: s[:]}
	}
	h.Write(data)
	return &guestdv1.Checksum{Type: kind, Value: h.Sum(nil)}
}

// randomBytes are the same in every run.
func randomBytes(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
}

// TestFileWriteModes writes over an old file in every mode.
func TestFileWriteModes(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		for mode, want := range map[guestdv1.WriteMode]string{
			guestdv1.WriteMode_WRITE_MODE_UNSPECIFIED: "new",
			guestdv1.WriteMode_WRITE_MODE_ATOMIC:      "new",
			guestdv1.WriteMode_WRITE_MODE_TRUNCATE:    "new",
			guestdv1.WriteMode_WRITE_MODE_APPEND:      "old contentnew",
			guestdv1.WriteMode_WRITE_MODE_UPDATE:      "old newtent",
		} {
			path := filepath.Join(c.dir, strconv.Itoa(uid)+mode.String())
			c.put(t, as, path, "old content")
			before := stat(t, path)
			start := &guestdv1.WriteStart{Context: as, Path: path, Mode: mode, Permissions: ptr(uint32(0o640)), Sync: true, Size: ptr(uint64(3))}
			if mode == guestdv1.WriteMode_WRITE_MODE_UPDATE {
				start.Offset = 4
			}
			resp, err := c.upload(testContext(t), start, []byte("new"), 1, sumOf(crc32cSum, []byte("new")))
			if err != nil {
				t.Errorf("%v: %v", mode, err)
				continue
			}
			wantContent(t, path, []byte(want))
			wantOwner(t, path, uid, 0o640)
			if resp.GetBytes() != 3 || resp.GetInfo().GetSize() != uint64(len(want)) || resp.GetInfo().GetPath() != path {
				t.Errorf("%v: %v", mode, resp)
			}
			replaced := stat(t, path).Ino != before.Ino
			if atomic := mode <= guestdv1.WriteMode_WRITE_MODE_ATOMIC; atomic != replaced {
				t.Errorf("%v: the file was replaced: %v", mode, replaced)
			}
		}
		path := filepath.Join(c.dir, strconv.Itoa(uid), "made", "too")
		start := &guestdv1.WriteStart{Context: as, Path: path, Mode: guestdv1.WriteMode_WRITE_MODE_EXCLUSIVE, MakeParents: true,
			ModifyTime: timestamppb.New(time.Unix(1, 5))}
		if _, err := c.upload(testContext(t), start, []byte("x"), 1, nil); err != nil {
			t.Fatal(err)
		}
		wantOwner(t, path, uid, 0o644)
		wantOwner(t, filepath.Dir(path), uid, 0o755)
		if st := stat(t, path); st.Mtim.Sec != 1 || st.Mtim.Nsec != 5 {
			t.Errorf("modified at %v", st.Mtim)
		}
	})
}

// TestFileWriteOwner gives a new file to somebody.
func TestFileWriteOwner(t *testing.T) {
	needRoot(t)
	c := serveFiles(t)
	for owner, want := range map[string][2]uint32{"1234": {1234, 0}, "1234:daemon": {1234, 1}, ":77": {0, 77}} {
		path := filepath.Join(c.dir, "owned"+owner)
		if _, err := c.upload(testContext(t), &guestdv1.WriteStart{Path: path, Owner: owner}, nil, 1, nil); err != nil {
			t.Fatal(err)
		}
		if st := stat(t, path); st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s: belongs to %d:%d", owner, st.Uid, st.Gid)
		}
	}
}

// TestFileWriteChecksums writes with right and wrong sums, in pieces of odd
// sizes, and with none at all.
func TestFileWriteChecksums(t *testing.T) {
	c := serveFiles(t)
	data := randomBytes(3<<20 + 17)
	for _, kind := range []guestdv1.ChecksumType{sha256Sum, crc32cSum} {
		path := filepath.Join(c.dir, kind.String())
		start := &guestdv1.WriteStart{Path: path, Checksum: kind, Size: ptr(uint64(len(data)))}
		resp, err := c.upload(testContext(t), start, data, 300_007, sumOf(kind, data))
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		if !bytes.Equal(resp.GetChecksum().GetValue(), sumOf(kind, data).GetValue()) || resp.GetChecksum().GetType() != kind {
			t.Errorf("%v: answers %v", kind, resp.GetChecksum())
		}
		wantContent(t, path, data)

		wrong := sumOf(kind, data[1:])
		_, err = c.upload(testContext(t), &guestdv1.WriteStart{Path: path, Checksum: kind, ResumeId: "r"}, data, 1<<20, wrong)
		wantFailure(t, err, codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, "path", path, "want", "", "got", "")
		wantContent(t, path, data)
	}
	// CRC-32C is the default.
	path := filepath.Join(c.dir, "plain")
	resp := c.put(t, nil, path, "x")
	if want := sumOf(crc32cSum, []byte("x")); !bytes.Equal(resp.GetChecksum().GetValue(), want.GetValue()) {
		t.Errorf("default checksum %v", resp.GetChecksum())
	}
	for _, sum := range []*guestdv1.Checksum{
		sumOf(sha256Sum, nil), {Type: crc32cSum, Value: []byte("too long")}, {Value: []byte("abcd")},
	} {
		_, err := c.upload(testContext(t), &guestdv1.WriteStart{Path: path}, []byte("y"), 1, sum)
		wantFailure(t, err, codes.InvalidArgument, invalid)
	}
	wantContent(t, path, []byte("x"))
	wantNoLeftovers(t, c.dir, "plain", sha256Sum.String(), crc32cSum.String())
}

// TestFileWriteProtocol sends requests in orders that are none.
func TestFileWriteProtocol(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "old")
	start := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: &guestdv1.WriteStart{Path: path}}}
	data := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: []byte("new")}}
	large := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: make([]byte, 1<<20+1)}}
	commit := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Commit{Commit: &guestdv1.WriteCommit{}}}
	for name, requests := range map[string][]*guestdv1.WriteRequest{
		"nothing":           {},
		"no start":          {data},
		"commit first":      {commit},
		"two starts":        {start, start},
		"nothing in it":     {start, {}},
		"data after commit": {start, commit, data},
		"two commits":       {start, commit, commit},
		"too much at once":  {start, large},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := c.Write(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, req := range requests {
				if stream.Send(req) != nil {
					break // refused already
				}
			}
			_, err = stream.CloseAndRecv()
			wantFailure(t, err, codes.InvalidArgument, invalid)
		})
	}
	wantContent(t, path, []byte("old"))
	wantNoLeftovers(t, c.dir, "file")
}

// startWrite begins a write and sends some data, which has arrived in the file
// system when it returns.
func (c *fileClient) startWrite(t *testing.T, ctx context.Context, start *guestdv1.WriteStart, data []byte) grpc.ClientStreamingClient[guestdv1.WriteRequest, guestdv1.WriteResponse] {
	t.Helper()
	stream, err := c.Write(ctx)
	if err != nil {
		t.Fatal(err)
	}
	requests := []*guestdv1.WriteRequest{
		{Part: &guestdv1.WriteRequest_Start{Start: start}},
		{Part: &guestdv1.WriteRequest_Data{Data: data}},
	}
	for _, req := range requests {
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Dir(start.GetPath())
	eventually(t, "the data arrives", func() bool {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err == nil && info.Size() == int64(len(data)) && entry.Name() != filepath.Base(start.GetPath()) {
				return true
			}
		}
		return false
	})
	return stream
}

// TestFileWriteCut ends an upload in every way but the right one.
func TestFileWriteCut(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "old content")
	data := randomBytes(300_000)
	start := &guestdv1.WriteStart{Path: path, Permissions: ptr(uint32(0o600))}
	ended := func(t *testing.T) {
		t.Helper()
		eventually(t, "the temporary file goes", func() bool {
			entries, err := os.ReadDir(c.dir)
			return err == nil && len(entries) == 1
		})
		wantContent(t, path, []byte("old content"))
		wantOwner(t, path, os.Getuid(), 0o644)
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		stream := c.startWrite(t, ctx, start, data)
		cancel()
		// Not CloseAndRecv: its half-close, which commits, can overtake the reset.
		if err := stream.RecvMsg(new(guestdv1.WriteResponse)); status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
		ended(t)
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
		defer cancel()
		stream, err := c.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: start}}); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new(guestdv1.WriteResponse)); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		ended(t)
	})
	t.Run("connection lost", func(t *testing.T) {
		other := dialFiles(t, c.socket)
		other.startWrite(t, testContext(t), start, data)
		release(other.conn)
		ended(t)
	})
}

// TestFileWriteResume cuts an upload and goes on where it was cut.
func TestFileWriteResume(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		dir := filepath.Join(c.dir, strconv.Itoa(uid))
		path := filepath.Join(dir, "file")
		check(t, "mkdir")(c.Mkdir(testContext(t), &guestdv1.MkdirRequest{Context: as, Path: dir}))
		c.put(t, as, path, "old content")
		data := randomBytes(900_000)
		start := &guestdv1.WriteStart{Context: as, Path: path, ResumeId: "upload-1", Checksum: sha256Sum, Size: ptr(uint64(len(data)))}
		status := &guestdv1.StatUploadRequest{Context: as, Path: path, ResumeId: "upload-1"}

		_, err := c.StatUpload(testContext(t), status)
		wantFailure(t, err, codes.NotFound, notFound, "path", path)

		other := dialFiles(t, c.socket)
		other.startWrite(t, testContext(t), start, data[:400_000])
		_, err = c.upload(testContext(t), start, data, 1<<20, nil)
		wantFailure(t, err, codes.Aborted, guestdv1.ErrorReason_ERROR_REASON_LOCKED, "path", path)
		release(other.conn)
		wantContent(t, path, []byte("old content"))

		partial, err := c.StatUpload(testContext(t), status)
		if err != nil || partial.GetOffset() != 400_000 || time.Since(partial.GetModifyTime().AsTime()) > time.Hour {
			t.Fatalf("partial: %v, %v", partial, err)
		}
		start.Offset = 400_001
		eventually(t, "the cut upload lets go of its file", func() bool {
			_, err = c.upload(testContext(t), start, data[400_001:], 1<<20, nil)
			return errorReason(err) != "LOCKED"
		})
		wantFailure(t, err, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH, "path", path)

		start.Offset = 390_000 // less than there is
		resp, err := c.upload(testContext(t), start, data[390_000:], 1<<20, sumOf(sha256Sum, data))
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetBytes() != 510_000 {
			t.Errorf("got %d bytes", resp.GetBytes())
		}
		wantContent(t, path, data)
		wantOwner(t, path, uid, 0o644)
		wantNoLeftovers(t, dir, "file")
	})
}

// TestFileWriteNoSpace fills a small file system.
func TestFileWriteNoSpace(t *testing.T) {
	needRoot(t)
	c := serveFiles(t)
	small := filepath.Join(c.dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m,mode=777"); err != nil {
		t.Skipf("SKIP: cannot mount a tmpfs: %v", err)
	}
	defer func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err) // somebody still has it open
		}
	}()
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		path := filepath.Join(small, "file"+strconv.Itoa(uid))
		c.put(t, as, path, "old content")
		data := randomBytes(2 << 20)
		for _, size := range []*uint64{nil, ptr(uint64(len(data)))} {
			_, err := c.upload(testContext(t), &guestdv1.WriteStart{Context: as, Path: path, Size: size}, data, 100_000, nil)
			wantFailure(t, err, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE, "path", path, "errno", "ENOSPC")
			written, err := strconv.Atoi(errorMeta(err)["written"])
			if full := size == nil; err != nil || full != (written > 500_000) || !full && written != 0 || written > 1<<20 {
				t.Errorf("size known %v: %d were written, %v", !full, written, err)
			}
			wantContent(t, path, []byte("old content"))
		}
		handle, err := c.OpenFile(testContext(t), &guestdv1.OpenFileRequest{Context: as, Path: path, Write: true})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, err = c.WriteFile(testContext(t), &guestdv1.WriteFileRequest{Handle: handle.GetHandle(), Data: data[:1<<20]})
		}
		wantFailure(t, err, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE,
			"path", path, "errno", "ENOSPC", "written", "")
		check(t, "close")(c.CloseFile(testContext(t), &guestdv1.CloseFileRequest{Handle: handle.GetHandle()}))
		check(t, "remove")(c.Remove(testContext(t), &guestdv1.RemoveRequest{Context: as, Path: path}))
	})
	wantNoLeftovers(t, small)
}
