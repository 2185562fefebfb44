//go:build linux

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// mib is the size of the pieces of these tests' files.
const mib = 1 << 20

func holePart(n uint64) *guestdv1.WriteRequest {
	return &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Hole{Hole: n}}
}

func dataPart(data []byte) *guestdv1.WriteRequest {
	return &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: data}}
}

// uploadParts writes a file in given parts.
func (c *fileClient) uploadParts(t *testing.T, start *guestdv1.WriteStart, parts ...*guestdv1.WriteRequest) (*guestdv1.WriteResponse, error) {
	t.Helper()
	stream, err := c.Write(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	first := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: start}}
	for _, part := range append([]*guestdv1.WriteRequest{first}, parts...) {
		if stream.Send(part) != nil {
			break // refused already
		}
	}
	return stream.CloseAndRecv()
}

// keepsHoles skips a test where the file system of a directory keeps none.
func keepsHoles(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "probe")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	if err := os.Truncate(path, mib); err != nil {
		t.Fatal(err)
	}
	if stat(t, path).Blocks != 0 {
		t.Skip("SKIP: the file system keeps no holes")
	}
}

// TestFileWriteHoles writes files with holes in every place.
func TestFileWriteHoles(t *testing.T) {
	c := serveFiles(t)
	keepsHoles(t, c.dir)
	data := randomBytes(5000)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		dir := filepath.Join(c.dir, fmt.Sprint(uid))
		check(t, "mkdir")(c.Mkdir(testContext(t), &guestdv1.MkdirRequest{Context: as, Path: dir}))
		hole := make([]byte, 3*mib)
		for name, test := range map[string]struct {
			parts []*guestdv1.WriteRequest
			want  [][]byte
		}{
			"start":    {[]*guestdv1.WriteRequest{holePart(3 * mib), dataPart(data)}, [][]byte{hole, data}},
			"middle":   {[]*guestdv1.WriteRequest{dataPart(data), holePart(3 * mib), dataPart(data)}, [][]byte{data, hole, data}},
			"end":      {[]*guestdv1.WriteRequest{dataPart(data), holePart(3 * mib)}, [][]byte{data, hole}},
			"only":     {[]*guestdv1.WriteRequest{holePart(3 * mib)}, [][]byte{hole}},
			"in parts": {[]*guestdv1.WriteRequest{holePart(1), holePart(3*mib - 1), holePart(0)}, [][]byte{hole}},
			"none":     {[]*guestdv1.WriteRequest{dataPart(data)}, [][]byte{data}},
		} {
			for _, kind := range []guestdv1.ChecksumType{sha256Sum, crc32cSum} {
				path := filepath.Join(dir, "file")
				want := bytes.Join(test.want, nil)
				sum := sumOf(kind, want)
				parts := append(test.parts, &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Commit{Commit: &guestdv1.WriteCommit{Checksum: sum}}})
				resp, err := c.uploadParts(t, &guestdv1.WriteStart{
					Context: as, Path: path, Size: ptr(uint64(len(want))), Holes: true, Checksum: kind, Permissions: ptr(uint32(0o604)),
				}, parts...)
				if err != nil {
					t.Errorf("%s, %v: %v", name, kind, err)
					continue
				}
				wantContent(t, path, want)
				wantOwner(t, path, uid, 0o604)
				if stored := stat(t, path).Blocks * 512; stored > 64<<10 {
					t.Errorf("%s: takes %d bytes", name, stored)
				}
				if resp.GetBytes() != uint64(len(want)) || !bytes.Equal(resp.GetChecksum().GetValue(), sum.GetValue()) {
					t.Errorf("%s: %v", name, resp)
				}
			}
		}
		wantNoLeftovers(t, dir, "file")
	})
}

// TestFileWriteBadHoles tells of holes that cannot be.
func TestFileWriteBadHoles(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "old")
	abc := dataPart([]byte("abc"))
	for name, test := range map[string]struct {
		start *guestdv1.WriteStart
		parts []*guestdv1.WriteRequest
	}{
		"not announced":      {&guestdv1.WriteStart{}, []*guestdv1.WriteRequest{holePart(1)}},
		"largest":            {&guestdv1.WriteStart{Holes: true}, []*guestdv1.WriteRequest{holePart(math.MaxUint64)}},
		"2^63":               {&guestdv1.WriteStart{Holes: true}, []*guestdv1.WriteRequest{holePart(1 << 63)}},
		"too much together":  {&guestdv1.WriteStart{Holes: true}, []*guestdv1.WriteRequest{abc, holePart(math.MaxInt64 - 2)}},
		"two too large ones": {&guestdv1.WriteStart{Holes: true}, []*guestdv1.WriteRequest{holePart(1 << 40), holePart(math.MaxInt64)}},
		"beyond the size":    {&guestdv1.WriteStart{Holes: true, Size: ptr(uint64(9))}, []*guestdv1.WriteRequest{abc, holePart(7)}},
		"beyond in place": {
			&guestdv1.WriteStart{Holes: true, Size: ptr(uint64(2)), Mode: guestdv1.WriteMode_WRITE_MODE_UPDATE, Offset: 1},
			[]*guestdv1.WriteRequest{holePart(3)},
		},
		"beyond the end": {
			&guestdv1.WriteStart{Holes: true, Mode: guestdv1.WriteMode_WRITE_MODE_UPDATE, Offset: 1},
			[]*guestdv1.WriteRequest{holePart(math.MaxInt64)},
		},
		"at the end": {
			&guestdv1.WriteStart{Holes: true, Mode: guestdv1.WriteMode_WRITE_MODE_APPEND},
			[]*guestdv1.WriteRequest{holePart(math.MaxInt64)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.start.Path = path
			_, err := c.uploadParts(t, test.start, test.parts...)
			wantFailure(t, err, codes.InvalidArgument, invalid)
			wantContent(t, path, []byte("old"))
			wantNoLeftovers(t, c.dir, "file")
		})
	}
	// One that nobody could check is cut short by the end of the call.
	_, err := c.uploadParts(t, &guestdv1.WriteStart{Path: path, Holes: true, Size: ptr(uint64(10))}, abc, holePart(6))
	wantFailure(t, err, codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, "want", "10", "got", "9")
	wantNoLeftovers(t, c.dir, "file")
}

// TestFileReadHoles reads files with holes, with and without being told of them.
func TestFileReadHoles(t *testing.T) {
	c := serveFiles(t)
	keepsHoles(t, c.dir)
	data := bytes.Repeat([]byte("x"), mib)
	content := append(append(make([]byte, mib), data...), make([]byte, 2*mib)...)
	path := filepath.Join(c.dir, "file")
	start := &guestdv1.WriteStart{Path: path, Holes: true}
	if _, err := c.uploadParts(t, start, holePart(mib), dataPart(data), holePart(2*mib)); err != nil {
		t.Fatal(err)
	}
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, _ int) {
		for _, test := range []struct {
			offset     int64
			length     *uint64
			parts      string // one letter each: hole, data
			begin, end int
		}{
			{0, nil, "hdh", 0, 4 * mib},
			{mib / 2, nil, "hdh", mib / 2, 4 * mib},
			{mib + 1, nil, "dh", mib + 1, 4 * mib},
			{3 * mib, nil, "h", 3 * mib, 4 * mib},
			{-7, nil, "h", 4*mib - 7, 4 * mib},
			{5, ptr(uint64(7)), "h", 5, 12},
			{mib - 5, ptr(uint64(10)), "hd", mib - 5, mib + 5},
			{0, ptr(uint64(0)), "", 0, 0},
			{9 * mib, nil, "", 0, 0},
		} {
			for _, kind := range []guestdv1.ChecksumType{0, sha256Sum, crc32cSum} {
				req := &guestdv1.ReadRequest{Context: as, Path: path, Offset: test.offset, Length: test.length, Checksum: kind, Holes: true}
				parts, got, end := c.readParts(t, req)
				want := content[test.begin:test.end]
				if parts != test.parts || !bytes.Equal(got, want) || end.GetBytes() != uint64(len(want)) {
					t.Errorf("%v: %q with %d bytes, %v", req, parts, len(got), end)
				}
				if kind != 0 && !bytes.Equal(end.GetChecksum().GetValue(), sumOf(kind, want).GetValue()) {
					t.Errorf("%v: checksum %v", req, end.GetChecksum())
				}
			}
		}
		// Who does not ask gets the zeros.
		_, got, _, err := c.download(testContext(t), &guestdv1.ReadRequest{Context: as, Path: path})
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	stream, err := c.Read(testContext(t), &guestdv1.ReadRequest{Path: path, Follow: true, Holes: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantFailure(t, err, codes.InvalidArgument, invalid)
}

// readParts reads a file and says in which parts it comes: h for a hole, d for
// data in any number of pieces.
func (c *fileClient) readParts(t *testing.T, req *guestdv1.ReadRequest) (parts string, content []byte, end *guestdv1.ReadEnd) {
	t.Helper()
	stream, err := c.Read(testContext(t), req)
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return parts, content, end
		}
		if err != nil {
			t.Fatal(err)
		}
		switch part := resp.GetPart().(type) {
		case *guestdv1.ReadResponse_Hole:
			parts += "h"
			content = append(content, make([]byte, part.Hole)...)
		case *guestdv1.ReadResponse_Data:
			if len(parts) == 0 || parts[len(parts)-1] != 'd' {
				parts += "d"
			}
			content = append(content, part.Data...)
		case *guestdv1.ReadResponse_End:
			end = part.End
		}
	}
}

// TestFileHolesAreQuick moves 100 GiB that are nearly all holes.
func TestFileHolesAreQuick(t *testing.T) {
	c := serveFiles(t)
	keepsHoles(t, c.dir)
	path := filepath.Join(c.dir, "file")
	const size = 100 << 30
	abc := dataPart([]byte("abc"))
	resp, err := c.uploadParts(t, &guestdv1.WriteStart{Path: path, Holes: true, Size: ptr(uint64(size))}, abc, holePart(size-6), abc)
	if errorMeta(err)["errno"] == "EFBIG" {
		t.Skip("SKIP: no files of 100 GiB here")
	}
	if err != nil || resp.GetBytes() != size {
		t.Fatalf("%v, %v", resp, err)
	}
	if st := stat(t, path); st.Size != size || st.Blocks > 128 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	// A block, and not three bytes, is what is stored.
	stream, err := c.Read(testContext(t), &guestdv1.ReadRequest{Path: path, Holes: true, Checksum: crc32cSum})
	if err != nil {
		t.Fatal(err)
	}
	var sent, told uint64
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent += uint64(len(part.GetData()))
		told += part.GetHole()
		if end := part.GetEnd(); end != nil && !bytes.Equal(end.GetChecksum().GetValue(), resp.GetChecksum().GetValue()) {
			t.Errorf("it came with the sum %v, and was written with %v", end.GetChecksum(), resp.GetChecksum())
		}
	}
	if sent+told != size || sent > 256<<10 {
		t.Errorf("%d bytes sent, %d told", sent, told)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(c.dir, &disk); err != nil {
		t.Fatal(err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < size {
		// Without holes it is told at once that this does not fit.
		_, err = c.uploadParts(t, &guestdv1.WriteStart{Path: path, Size: ptr(uint64(size))}, abc)
		wantFailure(t, err, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE)
	}
}
