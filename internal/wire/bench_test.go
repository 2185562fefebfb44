package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// benchSize is what one iteration moves. The ratio to the raw copy in the same
// run is what counts; see docs on performance.
const benchSize = 256 << 20

// bulkService is a server with two methods: Up receives WriteRequests into a
// file, Down sends ReadResponses from one.
type bulkService struct {
	fast bool
	path string
	pool *wire.Pool
}

func (s *bulkService) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "bulk",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Up", Handler: s.up, ClientStreams: true},
			{StreamName: "Down", Handler: s.down, ServerStreams: true},
		},
	}
}

func (s *bulkService) up(_ any, stream grpc.ServerStream) error {
	f, err := os.Create(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	var n int
	if s.fast {
		n, err = receiveFast(stream, f)
	} else {
		n, err = receiveStock(stream, f)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return stream.SendMsg(&guestdv1.WriteResponse{Bytes: uint64(n)})
}

func receiveFast(stream grpc.ServerStream, f *os.File) (n int, err error) {
	in := wire.Incoming{DataField: 2, Message: new(guestdv1.WriteRequest)}
	defer in.Free()
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var pieces [][]byte
	for {
		if err := stream.RecvMsg(&in); err != nil {
			return n, err
		}
		pieces = in.AppendTo(pieces[:0])
		var wrote int
		var writeErr error
		if err := raw.Write(func(fd uintptr) bool {
			wrote, writeErr = unix.Writev(int(fd), pieces)
			return true
		}); err != nil {
			return n, err
		}
		if writeErr != nil || wrote != in.Len() {
			return n, fmt.Errorf("writev: %d of %d: %w", wrote, in.Len(), writeErr)
		}
		n += wrote
		in.Free()
	}
}

func receiveStock(stream grpc.ServerStream, f *os.File) (n int, err error) {
	for {
		req := new(guestdv1.WriteRequest)
		if err := stream.RecvMsg(req); err != nil {
			return n, err
		}
		m, err := f.Write(req.GetData())
		n += m
		if err != nil {
			return n, err
		}
	}
}

func (s *bulkService) down(_ any, stream grpc.ServerStream) error {
	req := new(guestdv1.ReadRequest)
	if err := stream.RecvMsg(req); err != nil {
		return err
	}
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return send(stream, f, int(req.GetOffset()), s.fast, s.pool)
}

// send sends r in messages of chunk bytes.
func send(stream interface{ SendMsg(m any) error }, r io.Reader, chunk int, fast bool, pool *wire.Pool) error {
	for {
		b := pool.Get(chunk)
		n, err := r.Read(*b)
		if n == 0 {
			pool.Put(b)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		*b = (*b)[:n]
		if fast {
			payload := mem.NewBuffer(b, pool)
			err = stream.SendMsg(&wire.Data{Field: 2, Payload: payload})
			payload.Free()
		} else {
			err = stream.SendMsg(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: *b}})
			pool.Put(b)
		}
		if err != nil {
			return err
		}
	}
}

// zeros reads as n zero bytes without touching them: the cost of a source is
// not what is measured.
type zeros struct{ n int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.n)
	z.n -= n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// start serves s on a unix socket and connects to it.
func (s *bulkService) start(tb testing.TB, fast bool, opts []grpc.ServerOption, dial []grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	if s.fast {
		opts = append(opts, grpc.ForceServerCodecV2(wire.NewCodec()))
	}
	if fast {
		dial = append(dial, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())))
	}
	socket := filepath.Join(tb.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(opts...)
	server.RegisterService(s.desc(), nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix:"+socket, dial...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return conn
}

// upload sends size bytes and waits for the answer.
func upload(conn *grpc.ClientConn, r io.Reader, chunk int, fast bool, pool *wire.Pool) error {
	stream, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, "/bulk/Up")
	if err != nil {
		return err
	}
	if err := send(stream, r, chunk, fast, pool); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(new(guestdv1.WriteResponse))
}

// download receives everything into w.
func download(conn *grpc.ClientConn, chunk int, fast bool, w io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/bulk/Down")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&guestdv1.ReadRequest{Offset: int64(chunk)}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	in := wire.Incoming{DataField: 2, Message: new(guestdv1.ReadResponse)}
	defer in.Free()
	var pieces [][]byte
	for {
		message := new(guestdv1.ReadResponse)
		if fast {
			err = stream.RecvMsg(&in)
			pieces = in.AppendTo(pieces[:0])
		} else {
			err = stream.RecvMsg(message)
			pieces = append(pieces[:0], message.GetData())
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range pieces {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
	}
}

// tmpfs returns a directory in memory.
func tmpfs(tb testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "wire-bench-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkUpload moves data from a client over a unix socket into a file of a
// tmpfs: raw is read(2) and write(2) with nothing in between.
func BenchmarkUpload(b *testing.B) {
	path := filepath.Join(tmpfs(b), "file")
	b.Run("raw", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			rawUpload(b, path)
		}
	})
	for _, c := range cases() {
		b.Run(c.name, func(b *testing.B) {
			s := &bulkService{fast: c.fast, path: path, pool: new(wire.Pool)}
			conn := s.start(b, c.fast, nil, nil)
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				if err := upload(conn, &zeros{benchSize}, c.chunk, c.fast, s.pool); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDownload moves data from a file of a tmpfs to a client.
func BenchmarkDownload(b *testing.B) {
	path := filepath.Join(tmpfs(b), "file")
	if err := os.WriteFile(path, make([]byte, benchSize), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("raw", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			rawDownload(b, path)
		}
	})
	for _, c := range cases() {
		b.Run(c.name, func(b *testing.B) {
			s := &bulkService{fast: c.fast, path: path, pool: new(wire.Pool)}
			conn := s.start(b, c.fast, nil, nil)
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				if err := download(conn, c.chunk, c.fast, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type benchCase struct {
	name  string
	fast  bool
	chunk int
}

func cases() []benchCase {
	return []benchCase{
		{"stock/256KiB", false, 256 << 10},
		{"wire/64KiB", true, 64 << 10},
		{"wire/256KiB", true, 256 << 10},
		{"wire/256KiB-9", true, 256<<10 - 9},
		{"wire/1MiB", true, 1 << 20},
	}
}

// socketPair returns two connected unix sockets.
func socketPair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "raw"))
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	return a, b
}

func rawUpload(b *testing.B, path string) {
	from, to := socketPair(b)
	defer to.Close()
	go func() {
		defer from.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{from}, &zeros{benchSize}, make([]byte, 256<<10))
	}()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{to}, make([]byte, 256<<10))
	if err != nil || n != benchSize {
		b.Fatal(n, err)
	}
}

func rawDownload(b *testing.B, path string) {
	from, to := socketPair(b)
	defer to.Close()
	go func() {
		defer from.Close()
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{from}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 256<<10))
	if err != nil || n != benchSize {
		b.Fatal(n, err)
	}
}
