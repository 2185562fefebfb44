//go:build linux

package client_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/guestd/guestd/client"
)

// memory is a directory where files cost no disk, if there is one.
func memory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "client")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

const benchSize = 256 << 20

func benchFile(b *testing.B, dir string) string {
	b.Helper()
	path := filepath.Join(dir, "source")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, zeros{}, benchSize); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkUpload(b *testing.B) {
	c, _ := live(b)
	dir := memory(b)
	source := benchFile(b, dir)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Upload(b.Context(), source, filepath.Join(dir, "target"), client.UploadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	c, _ := live(b)
	dir := memory(b)
	source := benchFile(b, dir)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Download(b.Context(), source, filepath.Join(dir, "target"), client.DownloadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOutput(b *testing.B) {
	c, _ := live(b)
	dir := memory(b)
	source := benchFile(b, dir)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		cmd := c.Command("cat", source)
		cmd.Stdout = io.Discard
		if err := cmd.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTrue compares a command in the guest with one here, round by round.
func BenchmarkTrue(b *testing.B) {
	c, _ := live(b)
	b.Run("guest", func(b *testing.B) {
		for b.Loop() {
			if err := c.Command("/bin/true").Run(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("here", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
