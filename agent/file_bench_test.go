//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// bulkSize is what one transfer moves.
const bulkSize = 1 << 30

// bulkClient connects as package client does: with the codec and the sizes of
// package wire.
func bulkClient(t testing.TB, c *fileClient) *fileClient {
	t.Helper()
	fast := dialFiles(t, c.socket,
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())),
		grpc.WithReadBufferSize(wire.ReadBuffer),
		grpc.WithStaticStreamWindowSize(wire.StreamWindow),
		grpc.WithStaticConnWindowSize(wire.ConnWindow))
	fast.dir = memoryDir(t)
	return fast
}

// send uploads size bytes of content, again and again.
func (c *fileClient) send(ctx context.Context, start *guestdv1.WriteStart, content []byte, size int) error {
	stream, err := c.Write(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: start}}); err != nil {
		return err
	}
	for size > 0 {
		n := min(size, len(content))
		payload := mem.SliceBuffer(content[:n])
		if err := stream.SendMsg(&wire.Data{Field: writeDataField, Payload: payload}); err != nil {
			break // the answer tells why
		}
		size -= n
	}
	resp, err := stream.CloseAndRecv()
	if err == nil && resp.GetInfo().GetSize() != resp.GetBytes() {
		err = fmt.Errorf("incomplete: %v", resp)
	}
	return err
}

// drop downloads a file and counts its bytes.
func (c *fileClient) drop(ctx context.Context, req *guestdv1.ReadRequest) (n int, err error) {
	stream, err := c.Read(ctx, req)
	if err != nil {
		return 0, err
	}
	in := wire.Incoming{DataField: readDataField, Message: new(guestdv1.ReadResponse)}
	defer in.Free()
	for {
		if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n += in.Len()
		in.Free()
	}
}

// socketPair connects two ends over a unix socket of its own.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(sharedDir(t), "raw"))
	must(t, err)
	defer l.Close()
	a, err = net.Dial("unix", l.Addr().String())
	must(t, err)
	b, err = l.Accept()
	must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// plain hides what io.Copy would use instead of Read and Write.
type plain struct{ io.ReadWriter }

// copyPlain copies n bytes with read(2) and write(2), 256 KiB at a time.
func copyPlain(dst io.ReadWriter, src io.ReadWriter, n int64, buf []byte) error {
	copied, err := io.CopyBuffer(plain{dst}, io.LimitReader(plain{src}, n), buf)
	if err == nil && copied != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// contender is one of those that are measured side by side.
type contender struct {
	name string
	run  func() error
}

// compare runs all contenders in turn, round by round, and reports each one's
// throughput as the median of its ratios to the first: by the clock, and by the
// processor time of both ends, which means more on a machine that others use.
func compare(b *testing.B, all []contender) {
	byClock, byCPU := make([][]float64, len(all)), make([][]float64, len(all))
	must(b, all[0].run()) // the first one finds memory that nobody has used yet
	for range b.N {
		line := []string{}
		var rawTook, rawCPU float64
		for i, c := range all {
			runtime.GC()
			began, cpu := time.Now(), processorTime(b)
			if err := c.run(); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			took, cpu := time.Since(began).Seconds(), processorTime(b)-cpu
			if i == 0 {
				rawTook, rawCPU = took, cpu
			}
			byClock[i] = append(byClock[i], rawTook/took)
			byCPU[i] = append(byCPU[i], rawCPU/cpu)
			line = append(line, fmt.Sprintf("%s %.2fs (%.2f) cpu %.2fs (%.2f)", c.name, took, rawTook/took, cpu, rawCPU/cpu))
		}
		b.Log(strings.Join(line, ", "))
	}
	for i, c := range all[1:] {
		b.ReportMetric(median(byClock[i+1]), c.name+"/raw")
		b.ReportMetric(median(byCPU[i+1]), c.name+"-cpu/raw")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// processorTime is what this process and the programs that it ran have used, in
// seconds.
func processorTime(b *testing.B) float64 {
	total := 0.0
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		must(b, syscall.Getrusage(who, &used))
		total += float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
	}
	return total
}

// BenchmarkFileUpload compares a 1 GiB upload into memory, atomic and
// checksummed, with a raw copy from a unix socket into a file.
func BenchmarkFileUpload(b *testing.B) {
	c := bulkClient(b, serveFiles(b))
	content := randomBytes(wire.ChunkSize)
	out, in := socketPair(b)
	target := filepath.Join(c.dir, "target")
	buf := make([]byte, wire.ChunkSize)
	raw := func() error {
		var sent sync.WaitGroup
		sent.Go(func() {
			for range bulkSize / len(content) {
				if _, err := out.Write(content); err != nil {
					b.Error(err)
					return
				}
			}
		})
		defer sent.Wait()
		f, err := os.Create(target + ".raw")
		if err != nil {
			return err
		}
		if err := copyPlain(f, in, bulkSize, buf); err != nil {
			return err
		}
		return errors.Join(f.Close(), os.Rename(target+".raw", target), os.Remove(target))
	}
	upload := func(kind guestdv1.ChecksumType, size *uint64) func() error {
		return func() error {
			start := &guestdv1.WriteStart{Path: target, Checksum: kind, Size: size}
			return errors.Join(c.send(context.Background(), start, content, bulkSize), os.Remove(target))
		}
	}
	compare(b, []contender{
		{"raw", raw},
		{"crc32c", upload(crc32cSum, nil)},
		{"crc32c-sized", upload(crc32cSum, ptr(uint64(bulkSize)))},
		{"sha256", upload(sha256Sum, nil)},
	})
}

// BenchmarkFileDownload compares a 1 GiB download with a raw copy from a file
// into a unix socket.
func BenchmarkFileDownload(b *testing.B) {
	c := bulkClient(b, serveFiles(b))
	source := filepath.Join(c.dir, "source")
	content := randomBytes(wire.ChunkSize)
	f, err := os.Create(source)
	must(b, err)
	defer f.Close()
	for range bulkSize / len(content) {
		_, err := f.Write(content)
		must(b, err)
	}
	out, in := socketPair(b)
	buf, sink := make([]byte, wire.ChunkSize), make([]byte, wire.ChunkSize)
	raw := func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var received sync.WaitGroup
		received.Go(func() {
			for n := 0; n < bulkSize; {
				m, err := in.Read(sink)
				if n += m; err != nil {
					b.Error(err)
					return
				}
			}
		})
		defer received.Wait()
		return copyPlain(out, f, bulkSize, buf)
	}
	download := func(kind guestdv1.ChecksumType) func() error {
		return func() error {
			n, err := c.drop(context.Background(), &guestdv1.ReadRequest{Path: source, Checksum: kind})
			if err == nil && n < bulkSize {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	compare(b, []contender{
		{"raw", raw},
		{"plain", download(0)},
		{"crc32c", download(crc32cSum)},
		{"sha256", download(sha256Sum)},
	})
}

// TestFileBulkMemory moves large files and looks at the memory that both ends
// together need meanwhile.
func TestFileBulkMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("SKIP: moves gigabytes, and counts bytes of memory")
	}
	c := bulkClient(t, serveFiles(t))
	content := randomBytes(wire.ChunkSize)
	for _, test := range []struct {
		atOnce, size int
		limit        uint64
	}{
		{1, bulkSize, 32 << 20},
		{8, bulkSize / 8, 64 << 20},
	} {
		t.Run(fmt.Sprint(test.atOnce), func(t *testing.T) {
			debug.FreeOSMemory()
			peak := watchHeap(t)
			ctx := testContext(t)
			var transfers errgroup.Group
			for i := range test.atOnce {
				path := filepath.Join(c.dir, fmt.Sprint("large", i))
				transfers.Go(func() error {
					if err := c.send(ctx, &guestdv1.WriteStart{Path: path, Checksum: sha256Sum}, content, test.size); err != nil {
						return err
					}
					n, err := c.drop(ctx, &guestdv1.ReadRequest{Path: path})
					if err == nil && n != test.size {
						err = fmt.Errorf("downloaded %d bytes", n)
					}
					return err
				})
			}
			must(t, transfers.Wait())
			if got := peak(); got > test.limit {
				t.Errorf("needed %d MiB of memory", got>>20)
			} else {
				t.Logf("needed %d KiB of memory", got>>10)
			}
		})
	}
}

// watchHeap samples the memory that Go has in use, above what it has now, until
// the function that it returns is called, which tells the most.
func watchHeap(t testing.TB) func() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	before := stats.HeapInuse + stats.StackInuse
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse+now.StackInuse)
			select {
			case <-tick.C:
			case <-done:
				result <- most - min(most, before)
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-result
	}
}

// BenchmarkFileMillion lists a directory of a million files, beside find(1),
// and reports the memory that it takes, the client's part included.
func BenchmarkFileMillion(b *testing.B) {
	find, err := exec.LookPath("find")
	if err != nil {
		b.Skip("SKIP: no find(1) to compare with")
	}
	const count = 1_000_000
	c := bulkClient(b, serveFiles(b))
	fill(b, c.dir, count)
	walk := func(req *guestdv1.WalkRequest) func() error {
		return func() error {
			stream, err := c.Walk(context.Background(), req)
			if err != nil {
				return err
			}
			n := 0
			for resp := new(guestdv1.WalkResponse); err == nil; n += len(resp.GetEntries()) {
				resp, err = stream.Recv()
			}
			if n != count {
				return fmt.Errorf("%d entries: %w", n, err)
			}
			return nil
		}
	}
	names := walk(&guestdv1.WalkRequest{Path: c.dir, NamesOnly: true})
	full := walk(&guestdv1.WalkRequest{Path: c.dir})
	debug.FreeOSMemory()
	peak := watchHeap(b)
	must(b, names())
	must(b, full())
	memory := peak()
	compare(b, []contender{
		{"raw", func() error { return exec.Command(find, c.dir).Run() }},
		{"names", names},
		{"find-ls", func() error { return exec.Command(find, c.dir, "-printf", "%p %s %T@\n").Run() }},
		{"full", full},
	})
	b.ReportMetric(float64(memory)/(1<<20), "MiB")
}
