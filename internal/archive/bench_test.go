//go:build linux || darwin

package archive

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// smallFiles makes n files of 0 to 8 KiB in directories of a hundred.
func smallFiles(tb testing.TB, root string, n int) {
	tb.Helper()
	content := make([]byte, 8<<10)
	for i := range content {
		content[i] = byte(i * 7)
	}
	for i := range n {
		dir := fmt.Sprintf("%s/dir%03d", root, i/100)
		if i%100 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/file%05d", dir, i), content[:i*37%len(content)], 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// overSocket runs send and receive at the two ends of a unix socket.
func overSocket(dir string, send, receive func(net.Conn) error) error {
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("unix", l.Addr().String())
		if err == nil {
			err = send(c)
			if cerr := c.Close(); err == nil {
				err = cerr
			}
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	err = receive(c)
	c.Close()
	if serr := <-sent; err == nil {
		err = serr
	}
	return err
}

func TestTenThousandFiles(t *testing.T) {
	src, dest := filepath.Join(tempDir(t), "src"), tempDir(t)+"/dst"
	smallFiles(t, src, 10_000)
	var packed, unpacked Summary
	err := overSocket(tempDir(t), func(c net.Conn) (err error) {
		packed, err = Pack(t.Context(), c, src, PackOptions{})
		return err
	}, func(c net.Conn) (err error) {
		unpacked, err = Unpack(t.Context(), c, dest, UnpackOptions{PreserveOwner: true, StripComponents: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if packed.Files != 10_000 || unpacked.Files != 10_000 || packed.Bytes != unpacked.Bytes {
		t.Errorf("packed %+v\nunpacked %+v", packed, unpacked)
	}
	sameTree(t, snapshot(t, src), snapshot(t, dest))
}

// BenchmarkTree moves 10,000 small files over a unix socket, once with this
// package at both ends and once with GNU tar at both, turn by turn, and
// reports how fast this package is as a multiple of tar (goal P4: 0.8).
// GUESTD_BENCH_DIR chooses the file system.
func BenchmarkTree(b *testing.B) {
	gnu := gnuTar(b)
	top, err := os.MkdirTemp(os.Getenv("GUESTD_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(top)
	src := top + "/src"
	smallFiles(b, src, 10_000)
	ours := func(dest string) error {
		return overSocket(top, func(c net.Conn) error {
			_, err := Pack(context.Background(), c, src, PackOptions{})
			return err
		}, func(c net.Conn) error {
			_, err := Unpack(context.Background(), c, dest, UnpackOptions{PreserveOwner: true})
			return err
		})
	}
	theirs := func(dest string) error {
		return overSocket(top, func(c net.Conn) error {
			return tarWith(c, exec.Command(gnu, "-c", "--format=posix", "-C", top, "src"))
		}, func(c net.Conn) error {
			return tarWith(c, exec.Command(gnu, "-x", "-p", "-C", dest))
		})
	}
	var ratios []float64
	for b.Loop() {
		times := [2]time.Duration{}
		for i, move := range []func(string) error{ours, theirs} {
			dest, err := os.MkdirTemp(top, "dst")
			if err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if err := move(dest); err != nil {
				b.Fatal(err)
			}
			times[i] = time.Since(start)
			if err := os.RemoveAll(dest); err != nil {
				b.Fatal(err)
			}
		}
		ratios = append(ratios, float64(times[1])/float64(times[0]))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-tar-p50")
	b.ReportMetric(ratios[0], "x-tar-min")
	b.ReportMetric(ratios[len(ratios)-1], "x-tar-max")
}

// tarWith runs tar with the socket itself as its standard input and output, so
// that no copying by this process is measured.
func tarWith(c net.Conn, cmd *exec.Cmd) error {
	f, err := c.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, os.Stderr
	return cmd.Run()
}

func BenchmarkPack(b *testing.B) {
	src := b.TempDir()
	smallFiles(b, src, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Pack(context.Background(), io.Discard, src, PackOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
