//go:build linux

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
)

// piece is a part of a sparse file that has data.
type piece struct{ offset, length int64 }

// sparse makes a file of a size that has data only in some pieces, which begin
// and end between blocks.
func sparse(t *testing.T, size int64, pieces ...piece) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	f := must[*os.File](t)(os.Create(path))
	defer f.Close()
	if err := f.Truncate(size); errors.Is(err, syscall.EFBIG) {
		t.Skipf("SKIP: no files of %d bytes here", size)
	} else if err != nil {
		t.Fatal(err)
	}
	if len(pieces) == 0 && storedOf(t, path) != 0 || storedOf(t, path) > 64*kib {
		t.Skip("SKIP: the file system keeps no holes")
	}
	for _, p := range pieces {
		data := must[[]byte](t)(os.ReadFile(random(t, int(p.length))))
		if _, err := f.WriteAt(data, p.offset); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// storedOf is how many bytes a file takes.
func storedOf(t *testing.T, path string) int64 {
	t.Helper()
	return must[os.FileInfo](t)(os.Stat(path)).Sys().(*syscall.Stat_t).Blocks * 512
}

// wantCopy checks that a file is a copy of another, holes included.
func wantCopy(t *testing.T, original, copied string) {
	t.Helper()
	want, got := must[os.FileInfo](t)(os.Stat(original)), must[os.FileInfo](t)(os.Stat(copied))
	if got.Size() != want.Size() || got.Mode() != want.Mode() || !got.ModTime().Equal(want.ModTime()) {
		t.Errorf("%d bytes, %v, %v; want %d, %v, %v", got.Size(), got.Mode(), got.ModTime(), want.Size(), want.Mode(), want.ModTime())
	}
	if want.Size() < 1<<30 && hashOf(t, original) != hashOf(t, copied) {
		t.Error("another content")
	}
	if had, has := storedOf(t, original), storedOf(t, copied); has > had+64*kib {
		t.Errorf("%d bytes are stored, of which the original needs %d", has, had)
	}
}

func wantEntries(t *testing.T, dir string, n int) {
	t.Helper()
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != n {
		t.Errorf("left over: %v", entries)
	}
}

func TestSparseFilesThereAndBack(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	for name, local := range map[string]string{
		"at the start":  sparse(t, 9*mib, piece{8 * mib, mib}),
		"at the end":    sparse(t, 9*mib, piece{0, 3*mib + 17}),
		"in the middle": sparse(t, 9*mib, piece{5, 1000}, piece{4*mib - 1, 2}, piece{9*mib - 1, 1}),
		"only a hole":   sparse(t, 9*mib),
		"odd size":      sparse(t, 9*mib+1, piece{5 * mib, mib + 1}),
		"small":         sparse(t, 64*kib, piece{0, 1}),
	} {
		for checksum, resume := range map[client.Checksum]bool{client.CRC32C: true, client.SHA256: false, client.NoChecksum: true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				guest, back := filepath.Join(dir, "guest"), filepath.Join(dir, "back")
				size, stored := must[os.FileInfo](t)(os.Stat(local)).Size(), storedOf(t, local)
				moved := l.sent() + l.received()
				var last client.Progress
				progress := func(p client.Progress) { last = p }
				up, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: resume, Checksum: checksum, Progress: progress})
				if err != nil || up.Files != 1 || up.Bytes > stored || up.Skipped != 0 || last.Bytes != size || last.Total != size {
					t.Fatalf("%+v, %v, %+v", up, err, last)
				}
				down, err := c.Download(ctx, guest, back, client.DownloadOptions{Resume: resume, Checksum: checksum, Progress: progress})
				if err != nil || down.Files != 1 || down.Bytes != up.Bytes || last.Bytes != size || last.Total != size {
					t.Fatalf("%+v, %v, %+v", down, err, last)
				}
				wantCopy(t, local, guest)
				wantCopy(t, local, back)
				if n := l.sent() + l.received() - moved; n > 2*stored+64*kib {
					t.Errorf("%d bytes were moved, of %d that are stored", n, stored)
				}
				wantEntries(t, dir, 2)
			})
		}
	}
}

// As many holes as there can be.
func TestFileOfManyHoles(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	var pieces []piece
	for i := range int64(200) {
		pieces = append(pieces, piece{i * 128 * kib, 4 * kib})
	}
	local, dir := sparse(t, 26*mib, pieces...), t.TempDir()
	guest, back := filepath.Join(dir, "guest"), filepath.Join(dir, "back")
	if _, err := c.Upload(ctx, local, guest, client.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(ctx, guest, back, client.DownloadOptions{}); err != nil {
		t.Fatal(err)
	}
	wantCopy(t, local, guest)
	wantCopy(t, local, back)
}

// A disk image that is much larger than what is stored of it takes no longer
// than that.
func TestHugeSparseFile(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	const size = 100 << 30
	local, dir := sparse(t, size, piece{0, 5000}, piece{70 << 30, 5000}, piece{size - 10, 10}), t.TempDir()
	guest, back := filepath.Join(dir, "guest"), filepath.Join(dir, "back")
	if _, err := c.Upload(ctx, local, guest, client.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	// That is more than MaxBytes of a Download is, but not in what it takes.
	if _, err := c.Download(ctx, guest, back, client.DownloadOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := l.sent() + l.received(); n > 256*kib {
		t.Errorf("%d bytes were moved", n)
	}
	wantCopy(t, local, guest)
	wantCopy(t, local, back)
	for _, p := range []piece{{0, 6000}, {70<<30 - 10, 6000}, {size - 100, 100}} {
		want := sectionOf(t, local, p)
		if !bytes.Equal(want, sectionOf(t, guest, p)) || !bytes.Equal(want, sectionOf(t, back, p)) {
			t.Errorf("another content at %d", p.offset)
		}
	}
}

func sectionOf(t *testing.T, path string, p piece) []byte {
	t.Helper()
	f := must[*os.File](t)(os.Open(path))
	defer f.Close()
	return must[[]byte](t)(io.ReadAll(io.NewSectionReader(f, p.offset, p.length)))
}

// A transfer that broke off behind a hole, or (the part is cut) in the middle of
// one, or before it, goes on there.
func TestSparseTransfersGoOnLater(t *testing.T) {
	const size, broke = 60 * mib, 6 * mib
	shape := []piece{{0, mib}, {24 * mib, 8 * mib}, {59 * mib, mib}}
	for name, goesOnAt := range map[string]int64{"behind a hole": 0, "in a hole": 10 * mib, "before one": mib} {
		t.Run(name, func(t *testing.T) {
			c, l := liveWith(t, client.Config{ReattachTimeout: -1})
			ctx := within(t)
			local, dir := sparse(t, size, shape...), t.TempDir()
			guest, back := filepath.Join(dir, "there", "guest"), filepath.Join(dir, "back")
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			// cutPart cuts what arrived, and returns how much is left.
			cutPart := func(pattern string) int64 {
				parts := must[[]string](t)(filepath.Glob(pattern))
				if len(parts) != 1 {
					t.Fatalf("parts %q", parts)
				}
				has := must[os.FileInfo](t)(os.Stat(parts[0])).Size()
				if has < 24*mib || storedOf(t, parts[0]) > 10*mib {
					t.Errorf("%d bytes are there, %d stored", has, storedOf(t, parts[0]))
				}
				if goesOnAt == 0 {
					return has
				}
				if err := os.Truncate(parts[0], goesOnAt); err != nil {
					t.Fatal(err)
				}
				return goesOnAt
			}

			upload := func() error {
				_, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: true})
				return err
			}
			l.cutAfterSent(int(broke))
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			brokenOff(t, l, upload)
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			waitUnlocked(t, filepath.Join(dir, "there", ".guestd-*.part"))
			cutPart(filepath.Join(dir, "there", ".guestd-*.part"))
			sent := l.sent()
			if err := upload(); err != nil {
				t.Fatal(err)
			}
			if n := l.sent() - sent; n > 10*mib {
				t.Errorf("%d bytes were sent", n)
			}
			wantCopy(t, local, guest)
			wantEntries(t, filepath.Dir(guest), 1)

			download := func() (client.Transfer, error) {
				return c.Download(ctx, guest, back, client.DownloadOptions{Resume: true, MaxBytes: 11 * mib})
			}
			l.cutAfter(int(broke))
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			brokenOff(t, l, func() error { _, err := download(); return err })
			if err := c.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			had := cutPart(filepath.Join(dir, ".back.*.part"))
			received := l.received()
			if transfer, err := download(); err != nil || transfer.Bytes != 10*mib {
				t.Fatalf("%+v, %v", transfer, err)
			}
			if n := l.received() - received; n > 10*mib || goesOnAt == 0 && n > 33*mib-had+mib {
				t.Errorf("%d bytes came, %d were there", n, had)
			}
			wantCopy(t, local, back)
			wantEntries(t, dir, 2)
		})
	}
}

// waitUnlocked returns when the agent has noticed that the connection is gone, and
// has let go of the part.
func waitUnlocked(t *testing.T, pattern string) {
	t.Helper()
	parts := must[[]string](t)(filepath.Glob(pattern))
	if len(parts) != 1 {
		t.Fatalf("parts %q", parts)
	}
	f := must[*os.File](t)(os.Open(parts[0]))
	defer f.Close() // and with it the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// Over connections that break again and again it gets on, both ways.
func TestSparseFileOverBrokenConnections(t *testing.T) {
	c, l := live(t)
	ctx := within(t)
	local, dir := sparse(t, 40*mib, piece{0, mib}, piece{20 * mib, 3 * mib}, piece{39 * mib, mib}), t.TempDir()
	guest, back := filepath.Join(dir, "guest"), filepath.Join(dir, "back")
	cuts := slices.Repeat([]int{int(mib)}, 20)
	l.cutAfterSent(cuts...)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: true, Checksum: client.SHA256}); err != nil {
		t.Fatal(err)
	}
	l.cutAfterSent()
	l.cutAfter(cuts...)
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(ctx, guest, back, client.DownloadOptions{Checksum: client.SHA256}); err != nil {
		t.Fatal(err)
	}
	wantCopy(t, local, guest)
	wantCopy(t, local, back)
	wantEntries(t, dir, 2)
}

// A hole that is filled while the file is uploaded arrives as one or the other.
// If it was sent as a hole before the connection broke, the sum tells, and all
// is sent again.
func TestUploadOfAHoleThatIsFilled(t *testing.T) {
	for name, connection := range map[string]int{"before it is sent": 1, "after it was sent": 2} {
		t.Run(name, func(t *testing.T) {
			c, l := live(t)
			ctx := within(t)
			local, dir := sparse(t, 80*mib, piece{0, mib}, piece{64 * mib, 6 * mib}), t.TempDir()
			guest := filepath.Join(dir, "guest")
			dial, dials := l.dial, 0
			l.dial = func(ctx context.Context) (net.Conn, error) {
				if dials++; dials == connection { // one call at a time
					f := must[*os.File](t)(os.OpenFile(local, os.O_WRONLY, 0))
					defer f.Close()
					if _, err := f.WriteAt([]byte("filled"), 32*mib); err != nil {
						t.Error(err)
					}
				}
				return dial(ctx)
			}
			l.cutAfterSent(int(4 * mib))
			if _, err := c.Upload(ctx, local, guest, client.UploadOptions{Resume: true}); err != nil {
				t.Fatal(err)
			}
			if dials < 2 {
				t.Errorf("%d connections", dials)
			}
			if hashOf(t, local) != hashOf(t, guest) {
				t.Error("another content")
			}
			wantEntries(t, dir, 1)
		})
	}
}

// MaxBytes is what is stored.
func TestMaxBytesOfASparseFile(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	guest, dir := sparse(t, 80*mib, piece{40 * mib, mib}), t.TempDir()
	if _, err := c.Download(ctx, guest, filepath.Join(dir, "x"), client.DownloadOptions{MaxBytes: mib - 1}); !errors.Is(err, client.ErrLimit) {
		t.Errorf("%v", err)
	}
	wantEntries(t, dir, 0)
	if _, err := c.Download(ctx, guest, filepath.Join(dir, "x"), client.DownloadOptions{MaxBytes: mib}); err != nil {
		t.Errorf("%v", err)
	}
}

// recorder is an agent of any revision that takes down what is written.
type recorder struct {
	guestdv1.UnimplementedFileServiceServer
	guestdv1.UnimplementedSystemServiceServer
	revision uint32

	mu          sync.Mutex
	announced   bool
	data, holes uint64
	asked       int // for the revision
}

func (r *recorder) GetInfo(context.Context, *guestdv1.GetInfoRequest) (*guestdv1.GetInfoResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return &guestdv1.GetInfoResponse{ApiRevision: r.revision}, nil
}

func (r *recorder) Write(stream guestdv1.FileService_WriteServer) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&guestdv1.WriteResponse{Info: &guestdv1.FileInfo{Name: "f"}})
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.announced = r.announced || request.GetStart().GetHoles()
		r.data += uint64(len(request.GetData()))
		r.holes += request.GetHole()
		r.mu.Unlock()
	}
}

// An agent that does not know holes, or does not say so, gets the zeros. It is
// not even asked where there are none.
func TestHolesOnlyForAgentsThatTakeThem(t *testing.T) {
	full, holed := random(t, int(2*mib)), sparse(t, 10*mib, piece{5 * mib, mib})
	for name, test := range map[string]struct {
		revision uint32
		info     bool
		local    string
		want     *recorder
	}{
		"old":      {2, true, holed, &recorder{data: uint64(10 * mib), asked: 1}},
		"unknown":  {0, false, holed, &recorder{data: uint64(10 * mib)}},
		"new":      {3, true, holed, &recorder{announced: true, data: uint64(mib), holes: uint64(9 * mib), asked: 1}},
		"no holes": {3, true, full, &recorder{data: uint64(2 * mib)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{revision: test.revision}
			c := serve(t, func(s *grpc.Server) {
				guestdv1.RegisterFileServiceServer(s, r)
				if test.info {
					guestdv1.RegisterSystemServiceServer(s, r)
				}
			})
			if _, err := c.Upload(within(t), test.local, "/f", client.UploadOptions{}); err != nil {
				t.Fatal(err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.announced != test.want.announced || r.data != test.want.data || r.holes != test.want.holes || r.asked != test.want.asked {
				t.Errorf("announced %v, %d bytes, %d in holes, asked %d times", r.announced, r.data, r.holes, r.asked)
			}
		})
	}
}

// A guest tells of holes that cannot be.
func TestHolesAreChecked(t *testing.T) {
	info := &guestdv1.FileInfo{Name: "f", Type: guestdv1.FileType_FILE_TYPE_REGULAR, Mode: 0o600, Size: 1000}
	begin := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Info{Info: info}}
	data := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Data{Data: []byte("abc")}}
	hole := func(n uint64) *guestdv1.ReadResponse {
		return &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Hole{Hole: n}}
	}
	end := func(n uint64) *guestdv1.ReadResponse {
		return &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_End{End: &guestdv1.ReadEnd{Bytes: n}}}
	}
	for name, test := range map[string]struct {
		parts []*guestdv1.ReadResponse
		want  error
	}{
		"right":             {[]*guestdv1.ReadResponse{begin, data, hole(997), end(1000)}, nil},
		"none":              {[]*guestdv1.ReadResponse{begin, data, hole(0), end(3)}, nil},
		"before the info":   {[]*guestdv1.ReadResponse{hole(1), begin, end(1)}, client.ErrProtocol},
		"largest":           {[]*guestdv1.ReadResponse{begin, hole(math.MaxUint64), end(math.MaxUint64)}, client.ErrProtocol},
		"2^63":              {[]*guestdv1.ReadResponse{begin, data, hole(1 << 63), end(1<<63 + 3)}, client.ErrProtocol},
		"beyond the file":   {[]*guestdv1.ReadResponse{begin, data, hole(998), end(1001)}, client.ErrProtocol},
		"all together":      {[]*guestdv1.ReadResponse{begin, hole(600), hole(600), end(1200)}, client.ErrProtocol},
		"behind the file":   {[]*guestdv1.ReadResponse{begin, hole(1000), data, hole(1), end(1004)}, client.ErrProtocol},
		"not in the count":  {[]*guestdv1.ReadResponse{begin, data, hole(7), end(3)}, client.ErrProtocol},
		"nothing behind it": {[]*guestdv1.ReadResponse{begin, hole(7)}, client.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveFiles(t, &hostileFiles{info: info, read: test.parts})
			dir := t.TempDir()
			_, err := c.Download(within(t), "/f", filepath.Join(dir, "f"), client.DownloadOptions{Checksum: client.NoChecksum})
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("%v", err)
			}
			wantEntries(t, dir, map[bool]int{true: 1}[test.want == nil])
			if test.want == nil && name == "right" {
				want := append([]byte("abc"), make([]byte, 997)...)
				if got := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "f"))); !bytes.Equal(got, want) {
					t.Errorf("%q", got)
				}
			}
			// Who reads does not ask for holes.
			if _, err := c.Files().ReadFile(within(t), "/f"); !errors.Is(err, client.ErrProtocol) && !errors.Is(err, client.ErrChecksum) {
				t.Errorf("read: %v", err)
			}
		})
	}
	// Zeros are part of the sum.
	sum := &guestdv1.Checksum{Type: guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C, Value: []byte{0x36, 0x4b, 0x3f, 0xb7}} // of "abc"
	wrong := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_End{End: &guestdv1.ReadEnd{Bytes: 1000, Checksum: sum}}}
	c := serveFiles(t, &hostileFiles{info: info, read: []*guestdv1.ReadResponse{begin, data, hole(997), wrong}})
	dir := t.TempDir()
	_, err := c.Download(within(t), "/f", filepath.Join(dir, "f"), client.DownloadOptions{})
	if !errors.Is(err, client.ErrChecksum) {
		t.Errorf("%v", err)
	}
	wantEntries(t, dir, 0)
}
