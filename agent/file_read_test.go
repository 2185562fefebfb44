//go:build linux

package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// TestFileRead reads files of several sizes, whole and in parts.
func TestFileRead(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		for _, size := range []int{0, 1, 4096, 1 << 20, 1<<20 + 1} {
			path := filepath.Join(c.dir, fmt.Sprintf("%d-%d", uid, size))
			data := randomBytes(size)
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, kind := range []guestdv1.ChecksumType{0, sha256Sum, crc32cSum} {
				info, got, end, err := c.download(testContext(t), &guestdv1.ReadRequest{Context: as, Path: path, Checksum: kind})
				if err != nil || !bytes.Equal(got, data) || info.GetSize() != uint64(size) || info.GetPath() != path || end.GetBytes() != uint64(size) {
					t.Errorf("%d bytes: got %d, %v, %v, %v", size, len(got), info, end, err)
				}
				if kind == 0 && end.GetChecksum() != nil || kind != 0 && !bytes.Equal(end.GetChecksum().GetValue(), sumOf(kind, data).GetValue()) {
					t.Errorf("%d bytes: checksum %v", size, end.GetChecksum())
				}
			}
		}
	})
}

// TestFileReadRanges reads parts of a file.
func TestFileReadRanges(t *testing.T) {
	c := serveFiles(t)
	data := randomBytes(10_000)
	path := filepath.Join(c.dir, "file")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		offset     int64
		length     *uint64
		begin, end int
	}{
		{0, ptr(uint64(0)), 0, 0},
		{0, ptr(uint64(10)), 0, 10},
		{9_990, nil, 9_990, 10_000},
		{9_990, ptr(uint64(1 << 63)), 9_990, 10_000},
		{5_000, ptr(uint64(100)), 5_000, 5_100},
		{-7, nil, 9_993, 10_000},
		{-7, ptr(uint64(3)), 9_993, 9_996},
		{-20_000, ptr(uint64(5)), 0, 5},
		{20_000, nil, 10_000, 10_000},
	} {
		_, got, end, err := c.download(testContext(t), &guestdv1.ReadRequest{Path: path, Offset: test.offset, Length: test.length})
		if want := data[test.begin:test.end]; err != nil || !bytes.Equal(got, want) || end.GetBytes() != uint64(len(want)) {
			t.Errorf("%+v: got %d bytes, %v, %v", test, len(got), end, err)
		}
	}
}

// TestFileReadProc reads what has no size.
func TestFileReadProc(t *testing.T) {
	c := serveFiles(t)
	want, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	info, got, _, err := c.download(testContext(t), &guestdv1.ReadRequest{Path: "/proc/version"})
	if err != nil || !bytes.Equal(got, want) || info.GetSize() != 0 {
		t.Errorf("got %q, %v, %v", got, info, err)
	}
	_, got, _, err = c.download(testContext(t), &guestdv1.ReadRequest{Path: "/dev/zero", AllowSpecial: true, Length: ptr(uint64(1 << 20))})
	if err != nil || !bytes.Equal(got, make([]byte, 1<<20)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// TestFileReadFIFO reads from a FIFO whose writer comes late or never.
func TestFileReadFIFO(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		// One FIFO each: a call that was cancelled may read on for a moment.
		path, given := filepath.Join(c.dir, fmt.Sprint("fifo", uid)), filepath.Join(c.dir, fmt.Sprint("given-up", uid))
		for _, path := range []string{path, given} {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
		req := &guestdv1.ReadRequest{Context: as, Path: path, AllowSpecial: true}

		ctx, cancel := context.WithCancel(testContext(t))
		stream, err := c.Read(ctx, &guestdv1.ReadRequest{Context: as, Path: given, AllowSpecial: true})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil || resp.GetInfo().GetType() != guestdv1.FileType_FILE_TYPE_FIFO {
			t.Fatalf("%v, %v", resp, err)
		}
		cancel() // while nobody writes; serveFiles sees whether the handler ends
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}

		stream, err = c.Read(testContext(t), req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{"one", "two"} {
			if _, err := w.WriteString(piece); err != nil {
				t.Fatal(err)
			}
			if resp, err := stream.Recv(); err != nil || string(resp.GetData()) != piece {
				t.Errorf("%q: got %v, %v", piece, resp, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || resp.GetEnd().GetBytes() != 6 {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

// TestFileReadCancel cancels a download of which nobody reads the rest.
func TestFileReadCancel(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "large")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<32); err != nil { // a hole
		t.Fatal(err)
	}
	for _, received := range []int{0, 1, 10} {
		ctx, cancel := context.WithCancel(testContext(t))
		stream, err := c.Read(ctx, &guestdv1.ReadRequest{Path: path})
		for i := 0; i < received && err == nil; i++ {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Canceled {
			t.Errorf("after %d: %v", received, err)
		}
	}
	// A connection that is cut while the agent cannot send is noticed, too.
	other := dialFiles(t, c.socket)
	stream, err := other.Read(testContext(t), &guestdv1.ReadRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	release(other.conn)
}

// follower collects what a following Read tells.
type follower struct {
	stream grpc.ServerStreamingClient[guestdv1.ReadResponse]
	text   string
}

// until receives until the text ends with want.
func (f *follower) until(t *testing.T, want string) {
	t.Helper()
	for !strings.HasSuffix(f.text, want) {
		resp, err := f.stream.Recv()
		if err != nil {
			t.Fatalf("waiting for %q, have %q: %v", want, f.text, err)
		}
		switch part := resp.GetPart().(type) {
		case *guestdv1.ReadResponse_Data:
			f.text += string(part.Data)
		case *guestdv1.ReadResponse_Restarted:
			f.text += fmt.Sprintf("[restarted %s]", part.Restarted.GetInfo().GetName())
		}
	}
}

// TestFileReadFollow follows a log that grows, is cut, and is replaced.
func TestFileReadFollow(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		path := filepath.Join(c.dir, fmt.Sprint("log", uid))
		if err := os.WriteFile(path, []byte("first line\nsecond\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(testContext(t))
		defer cancel()
		stream, err := c.Read(ctx, &guestdv1.ReadRequest{Context: as, Path: path, Follow: true, Offset: -7})
		if err != nil {
			t.Fatal(err)
		}
		f := &follower{stream: stream}
		f.until(t, "second\n")
		appendTo(t, path, "third\n")
		f.until(t, "third\n")
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		f.until(t, "[restarted "+filepath.Base(path)+"]")
		appendTo(t, path, "fourth\n")
		f.until(t, "fourth\n")
		if err := os.WriteFile(path+".new", []byte("fifth\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		f.until(t, "fifth\n")
		appendTo(t, path, "sixth\n")
		f.until(t, "sixth\n")
		restarted := "[restarted " + filepath.Base(path) + "]"
		if want := "second\nthird\n" + restarted + "fourth\n" + restarted + "fifth\nsixth\n"; f.text != want {
			t.Errorf("got %q, want %q", f.text, want)
		}
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
	})
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
