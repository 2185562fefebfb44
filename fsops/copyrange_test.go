//go:build linux

package fsops

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCopyTo(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := os.WriteFile(filepath.Join(dir, "src"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	sys, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := sys.Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	open := func(path string, flags int) *Handle {
		t.Helper()
		h, err := f.Open(ctx, path, OpenOptions{Flags: flags})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	for _, flags := range []int{0, unix.O_APPEND} {
		for _, test := range []struct {
			from, size int64
			want       []byte
			err        error
		}{
			{0, -1, content, nil},
			{5, -1, content[5:], nil},
			{5, 10, content[5:15], nil},
			{5, 0, nil, nil},
			{999_990, 10, content[999_990:], nil},
			{999_990, 11, content[999_990:], io.EOF},
			{2_000_000, -1, nil, nil},
			{2_000_000, 1, nil, io.EOF},
		} {
			dst := open("dst", unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|flags)
			offset := int64(3)
			if flags != 0 {
				offset = 0
			}
			n, err := open("src", 0).CopyTo(ctx, dst, test.from, offset, test.size)
			got, _ := os.ReadFile(filepath.Join(dir, "dst"))
			if n != int64(len(test.want)) || !errors.Is(err, test.err) || !bytes.Equal(got[min(int(offset), len(got)):], test.want) {
				t.Errorf("flags %x, %d bytes from %d: %d, %v; %d bytes in the file", flags, test.size, test.from, n, err, len(got))
			}
		}
	}
	if n, err := open("/proc/self/status", 0).CopyTo(ctx, open("dst", unix.O_RDWR|unix.O_TRUNC), 0, 0, -1); n == 0 || err != nil {
		t.Errorf("from /proc: %d, %v", n, err)
	}
	if _, err := open("src", 0).CopyTo(ctx, open("dst", 0), 0, 0, -1); !errors.Is(err, unix.EBADF) {
		t.Errorf("to a file open for reading: %v", err)
	}
}
