//go:build linux

package agent

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/sparse"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// readDataField is ReadResponse.data; a test compares it with the descriptor.
const readDataField = 2

// followChunk is the buffer of a Read that follows. It is held while nothing
// happens, perhaps for days, so it is smaller than the others'.
const followChunk = 16 << 10

// Read implements guestd.v1.FileService.
func (s *fileService) Read(req *guestdv1.ReadRequest, stream grpc.ServerStreamingServer[guestdv1.ReadResponse]) error {
	view, path, err := s.target(req)
	if err != nil {
		return err
	}
	opts, err := readOptions(req)
	if err != nil {
		return err
	}
	sum, err := newChecksum(req.GetChecksum())
	if err != nil {
		return err
	}
	reader, err := view.OpenRead(stream.Context(), path, opts)
	if err != nil {
		return err
	}
	defer release(reader)
	info, err := describe(view, reader.Info(), path)
	if err != nil {
		return err
	}
	err = stream.Send(&guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Info{Info: info}})
	if err != nil {
		return err
	}
	out := &readStream{
		ServerStreamingServer: stream,
		pool:                  s.pool,
		sum:                   sum,
		holes:                 req.GetHoles(),
		now: func() (*guestdv1.FileInfo, error) {
			info, err := view.Stat(stream.Context(), path)
			if errors.Is(err, fs.ErrNotExist) {
				info, err = reader.Info(), nil // renamed once more; it will be noticed
			}
			if err != nil {
				return nil, err
			}
			return describe(view, info, path)
		},
	}
	if req.Length == nil || req.GetLength() > 0 { // for OpenRead 0 means: to the end
		chunk, done := s.readChunk(reader.Info(), opts)
		defer done()
		if err := out.copy(reader, chunk); err != nil {
			return err
		}
	}
	end := &guestdv1.ReadEnd{Bytes: out.bytes, Checksum: sum.wire()}
	return stream.Send(&guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_End{End: end}})
}

// readOptions translates a request.
func readOptions(req *guestdv1.ReadRequest) (fsops.ReadOptions, error) {
	if req.GetFollow() && req.GetChecksum() != guestdv1.ChecksumType_CHECKSUM_TYPE_UNSPECIFIED {
		return fsops.ReadOptions{}, invalidRequest("checksum: cannot be combined with follow")
	}
	if req.GetFollow() && req.GetHoles() {
		return fsops.ReadOptions{}, invalidRequest("holes: cannot be combined with follow")
	}
	return fsops.ReadOptions{
		Offset:       req.GetOffset(),
		Length:       int64(min(req.GetLength(), math.MaxInt64)),
		Follow:       req.GetFollow(),
		AllowSpecial: req.GetAllowSpecial(),
	}, nil
}

// readChunk is the size of the pieces in which a file is sent, until done is
// called: no more than it seems to have. The byte beyond lets the first read of
// a small file see its end.
func (s *fileService) readChunk(info *fsops.FileInfo, opts fsops.ReadOptions) (size int, done func()) {
	done = func() {}
	switch {
	case opts.Follow:
		return followChunk, done
	case info.IsRegular() && info.Size > 0 && info.Size < wire.ChunkSize:
		return int(info.Size + 1), done
	case info.IsRegular() && info.Size >= wire.MaxData:
		select {
		case s.large <- struct{}{}:
			return wire.MaxData, func() { <-s.large }
		default:
		}
	}
	return wire.ChunkSize, done
}

// readStream is the sending half of a Read.
type readStream struct {
	grpc.ServerStreamingServer[guestdv1.ReadResponse]
	pool  *wire.Pool
	sum   *checksum
	holes bool                               // tell them
	now   func() (*guestdv1.FileInfo, error) // the file that is being read
	bytes uint64                             // sent so far
}

// copy sends what reader gives, up to its end.
func (s *readStream) copy(reader *fsops.Reader, chunk int) error {
	for {
		size := chunk
		if s.holes {
			hole, data := reader.SkipHole()
			if err := s.sendHole(hole); err != nil {
				return err
			}
			size = int(min(int64(chunk), data))
		}
		buf := s.pool.Get(size)
		n, readErr := reader.Read(*buf)
		*buf = (*buf)[:n]
		if err := s.send(buf); err != nil {
			return err
		}
		switch {
		case readErr == nil:
		case errors.Is(readErr, io.EOF):
			return nil
		case errors.Is(readErr, fsops.ErrTruncated), errors.Is(readErr, fsops.ErrReplaced):
			if err := s.restart(); err != nil {
				return err
			}
		default:
			return readErr
		}
	}
}

// send sends what is in buf, which it takes over from the pool's user.
func (s *readStream) send(buf *[]byte) error {
	if len(*buf) == 0 {
		s.pool.Put(buf)
		return nil
	}
	s.sum.add(*buf)
	s.bytes += uint64(len(*buf))
	payload := mem.NewBuffer(buf, s.pool)
	defer payload.Free()
	return s.SendMsg(&wire.Data{Field: readDataField, Payload: payload})
}

// sendHole sends the length of a hole, unless n is 0.
func (s *readStream) sendHole(n int64) error {
	if n == 0 {
		return nil
	}
	s.bytes += uint64(n)
	// The client can sum up the zeros while this side does.
	if err := s.Send(&guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Hole{Hole: uint64(n)}}); err != nil {
		return err
	}
	return s.sum.addZeros(s.Context(), n)
}

// restart tells that the file starts over.
func (s *readStream) restart() error {
	info, err := s.now()
	if err != nil {
		return err
	}
	restarted := &guestdv1.ReadRestarted{Info: info}
	return s.Send(&guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Restarted{Restarted: restarted}})
}

// checksum sums up what is sent. A nil checksum does nothing.
type checksum struct {
	kind guestdv1.ChecksumType
	hash hash.Hash
}

// newChecksum returns nil for no checksum.
func newChecksum(kind guestdv1.ChecksumType) (*checksum, error) {
	algorithm, err := wireAlgorithm("checksum", kind)
	if h := algorithm.New(); h != nil {
		return &checksum{kind, h}, nil
	}
	return nil, err
}

// add takes the next bytes.
func (c *checksum) add(p []byte) {
	if c != nil {
		c.hash.Write(p)
	}
}

// addZeros takes n zeros as the next bytes. It ends early with ctx.
func (c *checksum) addZeros(ctx context.Context, n int64) error {
	if c == nil {
		return nil
	}
	return sparse.WriteZeros(c.hash, n, ctx.Err)
}

// wire returns the value up to now; nil for no checksum.
func (c *checksum) wire() *guestdv1.Checksum {
	if c == nil {
		return nil
	}
	return &guestdv1.Checksum{Type: c.kind, Value: c.hash.Sum(nil)}
}

// wireAlgorithm translates a checksum's type.
func wireAlgorithm(field string, kind guestdv1.ChecksumType) (fsops.Algorithm, error) {
	switch kind {
	case guestdv1.ChecksumType_CHECKSUM_TYPE_UNSPECIFIED:
		return fsops.NoChecksum, nil
	case guestdv1.ChecksumType_CHECKSUM_TYPE_SHA256:
		return fsops.SHA256, nil
	case guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C:
		return fsops.CRC32C, nil
	}
	return fsops.NoChecksum, invalidRequest("%s: type %d is not known", field, kind)
}
