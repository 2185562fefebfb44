//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestSparseFile copies a disk image that is nearly all holes, which no disk has
// room for otherwise, both ways.
func TestSparseFile(t *testing.T) {
	socket := newAgent(t)
	dir := t.TempDir()
	image, guest, back := filepath.Join(dir, "disk.img"), filepath.Join(dir, "guest.img"), filepath.Join(dir, "back.img")
	const size, last = 100 << 30, 99 << 30
	if err := os.WriteFile(image, []byte("boot sector"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Skipf("SKIP: no files of 100 GiB here: %v", err)
	}
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("superblock"), last); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stored := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil || info.Size() != size {
			t.Fatalf("%s: %+v, %v", path, info, err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if stored(image) > 1<<20 {
		t.Skip("SKIP: the file system keeps no holes")
	}
	for _, args := range [][]string{{image, ":" + guest}, {":" + guest, back}} {
		var copied jsonCopy
		if err := json.Unmarshal([]byte(outputOf(t, socket, append([]string{"cp", "--json"}, args...)...)), &copied); err != nil {
			t.Fatal(err)
		}
		if copied.Files != 1 || copied.Bytes == 0 || copied.Bytes > 1<<20 || copied.Skipped != 0 {
			t.Errorf("cp %q: %+v", args, copied)
		}
	}
	for _, path := range []string{guest, back} {
		if n := stored(path); n > 1<<20 {
			t.Errorf("%s takes %d bytes", path, n)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for offset, want := range map[int64]string{0: "boot sector\x00", last - 1: "\x00superblock\x00"} {
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, offset); err != nil || !bytes.Equal(got, []byte(want)) {
				t.Errorf("%s has %q at %d, %v", path, got, offset, err)
			}
		}
	}
}
