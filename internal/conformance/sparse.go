package conformance

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/guestd/guestd/client"
)

// ramfs is the type of a file system that knows no holes: that of an initramfs.
const ramfs = 0x858458f6

// sparseFile moves a file that is mostly holes there and back, as it is.
func (s *suite) sparseFile(t *testing.T) {
	ctx, dir, guest := s.context(t), t.TempDir(), s.path(t, "file")
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	size, data := int64(s.scale(200<<20, 16<<20)), noise(100_000)
	f, err := os.Create(from)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for _, offset := range []int64{0, size / 2, size - int64(len(data)) - 1<<20} {
		_, err := f.WriteAt(data, offset)
		must(t, err)
	}
	const most = 1 << 20 // stored, in blocks of any size
	up, err := s.client.Upload(ctx, from, guest, client.UploadOptions{})
	if err != nil || up.Files != 1 || up.Bytes < 3*int64(len(data)) {
		t.Errorf("%+v, %v", up, err)
	}
	holes := up.Bytes < most // this side's file system keeps them
	info, err := s.client.Files().Stat(ctx, guest)
	if err != nil || info.Size() != size || holes && info.Allocated() > most {
		t.Errorf("there it is %+v, %v", info, err)
	}
	down, err := s.client.Download(ctx, guest, to, client.DownloadOptions{Checksum: client.SHA256})
	must(t, err)
	disk, err := s.client.Files().StatFilesystem(ctx, path.Dir(guest))
	must(t, err)
	if disk.Type != ramfs && holes && down.Bytes > most {
		t.Errorf("%d bytes came back, %d went", down.Bytes, up.Bytes)
	}
	g, err := os.Open(to)
	must(t, err)
	defer g.Close()
	if !sameContent(t, f, g, size) {
		t.Error("another content came back")
	}
	s.onlyFile(t, guest)
}

// sameContent compares the first size bytes of two files.
func sameContent(t *testing.T, a, b *os.File, size int64) bool {
	t.Helper()
	left, right := make([]byte, 1<<20), make([]byte, 1<<20)
	for offset := int64(0); offset < size; offset += int64(len(left)) {
		n := min(int64(len(left)), size-offset)
		for file, piece := range map[*os.File][]byte{a: left[:n], b: right[:n]} {
			_, err := file.ReadAt(piece, offset)
			must(t, err)
		}
		if !bytes.Equal(left[:n], right[:n]) {
			return false
		}
	}
	return true
}
