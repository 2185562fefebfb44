//go:build linux

package agent

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// writeDataField is WriteRequest.data; a test compares it with the descriptor.
const writeDataField = 2

// Write implements guestd.v1.FileService. The client's half-close is what
// commits: any other end of the stream, such as a cancelled call or a lost
// connection, comes as an error of RecvMsg and leaves the target alone.
func (s *fileService) Write(stream grpc.ClientStreamingServer[guestdv1.WriteRequest, guestdv1.WriteResponse]) error {
	in := &writeStream{stream: stream}
	in.next = wire.Incoming{DataField: writeDataField, Message: &in.message}
	defer in.next.Free()
	start, err := receiveStart(stream, &in.next, in.message.GetStart)
	if err != nil {
		return err
	}
	view, path, err := s.target(start)
	if err != nil {
		return err
	}
	opts, err := writeOptions(start)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	w, err := view.NewWriter(ctx, path, opts)
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }() // nothing after Commit; else the reason is told
	in.holes = opts.Holes
	commit, err := in.copyTo(w)
	if err != nil {
		return err
	}
	if start.Size != nil && opts.Size == 0 && in.bytes > 0 {
		// To fsops a size of 0 is an unknown one.
		return &fsops.SizeError{Want: 0, Got: int64(in.bytes)}
	}
	sum, err := commitSum(commit, opts.Checksum)
	if err != nil {
		return err
	}
	result, err := w.Commit(ctx, sum)
	if err != nil {
		return err
	}
	info, err := describe(view, result.Info, path)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&guestdv1.WriteResponse{
		Bytes:    in.bytes,
		Info:     info,
		Checksum: &guestdv1.Checksum{Type: checksumType(opts.Checksum), Value: result.Sum},
	})
}

// writeStream is the receiving half of a Write.
type writeStream struct {
	stream  grpc.ServerStream
	next    wire.Incoming
	message guestdv1.WriteRequest
	pieces  [][]byte // of next, reused
	holes   bool     // were announced
	bytes   uint64   // received, those of holes included
}

// receiveStart receives a stream's first request, whose start is to be set.
func receiveStart[T any](stream grpc.ServerStream, next *wire.Incoming, start func() *T) (*T, error) {
	err := stream.RecvMsg(next)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err == nil && next.Bulk() == 0 {
		if got := start(); got != nil {
			return got, nil
		}
	}
	return nil, invalidRequest("start: does not come first")
}

// copyTo receives the rest of the requests, up to the half-close, and stores
// the data. It returns the commit, nil if there was none.
func (s *writeStream) copyTo(w *fsops.Writer) (commit *guestdv1.WriteCommit, err error) {
	for {
		err := s.stream.RecvMsg(&s.next)
		if errors.Is(err, io.EOF) {
			return commit, nil
		}
		if err != nil {
			return nil, err
		}
		if commit != nil {
			return nil, invalidRequest("part: comes after commit")
		}
		if s.next.Bulk() == writeDataField {
			s.pieces = s.next.AppendTo(s.pieces[:0])
			if err := s.store(w, s.pieces, s.next.Len()); err != nil {
				return nil, err
			}
			s.next.Free() // for the transport, which is receiving already
			continue
		}
		switch part := s.message.GetPart().(type) {
		case *guestdv1.WriteRequest_Data: // in an encoding that only some clients use
			if err := s.store(w, [][]byte{part.Data}, len(part.Data)); err != nil {
				return nil, err
			}
		case *guestdv1.WriteRequest_Hole:
			if err := s.storeHole(w, part.Hole); err != nil {
				return nil, err
			}
		case *guestdv1.WriteRequest_Commit:
			commit = part.Commit
		case *guestdv1.WriteRequest_Start:
			return nil, invalidRequest("start: comes twice")
		default:
			return nil, invalidRequest("part: is not set")
		}
	}
}

// store writes the pieces, which together are size bytes.
func (s *writeStream) store(w *fsops.Writer, pieces [][]byte, size int) error {
	if size > wire.MaxData {
		return invalidRequest("data: %d bytes are more than %d", size, wire.MaxData)
	}
	_, err := w.WriteBuffers(pieces)
	if err == nil {
		s.bytes += uint64(size)
	}
	return err
}

// storeHole stores a hole of n bytes.
func (s *writeStream) storeHole(w *fsops.Writer, n uint64) error {
	if !s.holes {
		return invalidRequest("hole: start.holes does not announce any")
	}
	if n > uint64(math.MaxInt64-w.Offset()) {
		return invalidRequest("hole: %d bytes are more than a file can have", n)
	}
	err := w.WriteHole(int64(n))
	if errors.Is(err, fsops.ErrSize) {
		return invalidRequest("hole: reaches beyond start.size: %v", err)
	}
	if err == nil {
		s.bytes += n
	}
	return err
}

// writeModes are the modes of the wire.
var writeModes = map[guestdv1.WriteMode]fsops.WriteMode{
	guestdv1.WriteMode_WRITE_MODE_UNSPECIFIED: fsops.WriteAtomic,
	guestdv1.WriteMode_WRITE_MODE_ATOMIC:      fsops.WriteAtomic,
	guestdv1.WriteMode_WRITE_MODE_EXCLUSIVE:   fsops.WriteExclusive,
	guestdv1.WriteMode_WRITE_MODE_TRUNCATE:    fsops.WriteTruncate,
	guestdv1.WriteMode_WRITE_MODE_APPEND:      fsops.WriteAppend,
	guestdv1.WriteMode_WRITE_MODE_UPDATE:      fsops.WriteInPlace,
}

// writeOptions checks and translates what a write is to be.
func writeOptions(start *guestdv1.WriteStart) (opts fsops.WriteOptions, err error) {
	mode, known := writeModes[start.GetMode()]
	if !known {
		return opts, invalidRequest("mode: %d is not known", start.GetMode())
	}
	opts = fsops.WriteOptions{Mode: mode, Sync: start.GetSync(), MakeParents: start.GetMakeParents(), Holes: start.GetHoles()}
	if opts.Perm, err = wireMode("permissions", start.Permissions); err != nil {
		return opts, err
	}
	user, group, _ := strings.Cut(start.GetOwner(), ":")
	if opts.UID, err = lookupOwner(user); err != nil {
		return opts, err
	}
	if opts.GID, err = lookupGroup(group); err != nil {
		return opts, err
	}
	if opts.Mtime, err = wireTime("modify_time", start.GetModifyTime()); err != nil {
		return opts, err
	}
	if start.Size != nil {
		if opts.Size, err = wireSize("size", start.GetSize()); err != nil {
			return opts, err
		}
	}
	opts.Checksum, err = wireAlgorithm("checksum", start.GetChecksum())
	if err != nil {
		return opts, err
	}
	if opts.Checksum == fsops.NoChecksum {
		opts.Checksum = fsops.CRC32C
	}
	opts.Offset, err = wireSize("offset", start.GetOffset())
	if err == nil {
		err = resumeOptions(&opts, start.GetResumeId())
	}
	return opts, err
}

// resumeOptions takes in resume_id, and with it offset, which means something
// else in update mode and nothing in the others.
func resumeOptions(opts *fsops.WriteOptions, id string) error {
	replaces := opts.Mode == fsops.WriteAtomic || opts.Mode == fsops.WriteExclusive
	switch {
	case id != "" && !replaces:
		return invalidRequest("resume_id: is for atomic and exclusive mode")
	case id != "":
		at := opts.Offset
		if opts.Size > 0 && at > opts.Size {
			return invalidRequest("offset: is beyond size")
		}
		opts.ResumeID, opts.ResumeAt, opts.Offset = id, &at, 0
		return checkResumeID(id)
	case opts.Offset != 0 && opts.Mode != fsops.WriteInPlace:
		return invalidRequest("offset: is for update mode and resumed writes")
	}
	return nil
}

// maxResumeID bounds resume ids, which become part of file names.
const maxResumeID = 64

// checkResumeID checks what is going to be part of a file name.
func checkResumeID(id string) error {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if id == "" || len(id) > maxResumeID || strings.Trim(id, allowed) != "" {
		return invalidRequest("resume_id: is not 1 to %d characters of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"", maxResumeID)
	}
	return nil
}

// commitSum returns the checksum that the client expects; nil if it does not
// say.
func commitSum(commit *guestdv1.WriteCommit, computed fsops.Algorithm) ([]byte, error) {
	sum := commit.GetChecksum()
	if sum == nil {
		return nil, nil
	}
	if sum.GetType() != checksumType(computed) {
		return nil, invalidRequest("commit.checksum.type: is not start.checksum")
	}
	if want := map[fsops.Algorithm]int{fsops.SHA256: 32, fsops.CRC32C: 4}[computed]; len(sum.GetValue()) != want {
		return nil, invalidRequest("commit.checksum.value: has %d bytes instead of %d", len(sum.GetValue()), want)
	}
	return sum.GetValue(), nil
}

// checksumType is the reverse of [wireAlgorithm].
func checksumType(algorithm fsops.Algorithm) guestdv1.ChecksumType {
	switch algorithm {
	case fsops.SHA256:
		return guestdv1.ChecksumType_CHECKSUM_TYPE_SHA256
	case fsops.CRC32C:
		return guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C
	}
	return guestdv1.ChecksumType_CHECKSUM_TYPE_UNSPECIFIED
}

// StatUpload implements guestd.v1.FileService.
func (s *fileService) StatUpload(ctx context.Context, req *guestdv1.StatUploadRequest) (*guestdv1.StatUploadResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	if err := checkResumeID(req.GetResumeId()); err != nil {
		return nil, err
	}
	size, mtime, err := view.StatPartial(ctx, path, req.GetResumeId())
	if err != nil {
		return nil, err
	}
	return &guestdv1.StatUploadResponse{Offset: uint64(size), ModifyTime: timestamppb.New(mtime)}, nil
}
