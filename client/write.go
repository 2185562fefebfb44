package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/sparse"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// writeDataField is WriteRequest.data.
const writeDataField protowire.Number = 2

// WriteMode is how a write treats what is there.
type WriteMode int

const (
	// Atomic writes a temporary file in the same directory, which then takes
	// the target's place: nobody sees half of it, and a write that fails leaves
	// the old file as it was. If the target is a symbolic link, the file it
	// leads to is replaced.
	Atomic WriteMode = iota
	// Exclusive is Atomic, and fails with fs.ErrExist if the target exists.
	Exclusive
	// Overwrite truncates or creates the file, and writes in place.
	Overwrite
	// Append writes at the end of the file, or creates it.
	Append
	// Update writes in place from Offset on, without truncating.
	Update
)

func (m WriteMode) toWire() guestdv1.WriteMode {
	switch m {
	case Exclusive:
		return guestdv1.WriteMode_WRITE_MODE_EXCLUSIVE
	case Overwrite:
		return guestdv1.WriteMode_WRITE_MODE_TRUNCATE
	case Append:
		return guestdv1.WriteMode_WRITE_MODE_APPEND
	case Update:
		return guestdv1.WriteMode_WRITE_MODE_UPDATE
	default:
		return guestdv1.WriteMode_WRITE_MODE_ATOMIC
	}
}

// WriteOptions says how to write a file. The zero value writes it atomically,
// with a checksum from end to end.
type WriteOptions struct {
	Mode WriteMode

	// Perm is the permission bits; 0: those of the target, 0644 for a new file.
	Perm fs.FileMode
	// Owner is USER, USER:GROUP or :GROUP, by name or number. What is not named
	// is the target's, for a new file the user's.
	Owner string
	// ModTime is the time of last change; zero: the guest's now.
	ModTime time.Time
	// Parents makes missing parent directories, mode 0755.
	Parents bool
	// Sync waits until the file is on its device.
	Sync bool

	// Size is how many bytes the file will have, if that is known: a full disk
	// is then reported at once, and another size in the end is an error. 0: not
	// known.
	Size int64
	// Offset is where Update begins.
	Offset int64

	// ResumeID, 1 to 64 characters of [A-Za-z0-9._-], makes the write resumable:
	// if it is interrupted, what arrived stays in the guest for up to 24 hours,
	// and the next write of the same path, id and content sends only the rest.
	// Atomic and Exclusive only.
	ResumeID string

	// Checksum is what the guest checks before the file takes its place.
	Checksum Checksum
}

// WriteFile writes the content of r to a file and describes the result. With a
// ResumeID, r must still begin at the file's start: what the guest has already
// is read and checked, but not sent.
//
// An error of r ends the write like any other: an atomic one leaves the old file
// as it was.
func (f *Files) WriteFile(ctx context.Context, path string, r io.Reader, o WriteOptions) (*FileInfo, error) {
	w := &fileWrite{files: f, path: path, options: o}
	return w.run(ctx, r)
}

// WriteBytes is WriteFile of a byte slice.
func (f *Files) WriteBytes(ctx context.Context, path string, data []byte, o WriteOptions) (*FileInfo, error) {
	if o.Size == 0 && o.Mode <= Exclusive {
		o.Size = int64(len(data))
	}
	return f.WriteFile(ctx, path, bytes.NewReader(data), o)
}

// fileWrite is one call of Write.
type fileWrite struct {
	files     *Files
	path      string
	options   WriteOptions
	perm      *uint32       // wins over options.Perm
	sent      func(n int64) // called with what r gave, resumed parts included; may be nil
	fromStart bool          // do not resume
	broke     bool          // an attempt lost its connection
	holes     *sparseFile   // the source, if the agent is told its holes

	resumedAt int64 // where the last attempt began
	most      int64 // the furthest that any has come
}

func (w *fileWrite) run(ctx context.Context, r io.Reader) (*FileInfo, error) {
	sum := w.options.Checksum.new()
	resumed, err := w.resumed(ctx)
	if err == nil && resumed > 0 {
		resumed, err = w.skip(ctx, r, sum, resumed)
	}
	w.resumedAt = resumed
	w.holes, _ = r.(*sparseFile)
	if err == nil && w.holes != nil && !w.files.client.takesHoles(ctx) {
		w.holes = nil
	}
	var start *guestdv1.WriteRequest
	if err == nil {
		start, err = w.start(resumed)
	}
	var response *guestdv1.WriteResponse
	if err == nil {
		response, err = w.transfer(ctx, start, r, sum)
	}
	if source, ok := errors.AsType[*sourceError](err); ok {
		return nil, fmt.Errorf("%s: %w", joinError("write", w.path, "read the source"), source.err)
	}
	if err != nil {
		return nil, w.files.client.mapError("write", w.path, err)
	}
	return infoFromWire(response.GetInfo()), nil
}

// transfer makes the call. When it returns early, ending the call's context
// makes the agent drop what it got.
func (w *fileWrite) transfer(ctx context.Context, start *guestdv1.WriteRequest, r io.Reader, sum hash.Hash) (*guestdv1.WriteResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := w.files.client.file.Write(ctx)
	if err == nil {
		err = call.Send(start)
	}
	if err == nil {
		err = w.send(call, r, sum)
	}
	if err == nil {
		// The end of what is sent commits it, and gRPC may let that overtake
		// the end of the context.
		err = status.FromContextError(ctx.Err()).Err()
	}
	if err == nil && sum != nil {
		err = w.commit(call, sum)
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: receiving tells why
		return nil, err
	}
	response, err := call.CloseAndRecv()
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	return response, nil
}

// resumed is how much of the file the guest has from an earlier attempt.
func (w *fileWrite) resumed(ctx context.Context) (int64, error) {
	if w.options.ResumeID == "" || w.fromStart {
		return 0, nil
	}
	request := &guestdv1.StatUploadRequest{Context: w.files.where(), ResumeId: w.options.ResumeID}
	request.Path, request.RawPath = toWire(w.path)
	response, err := w.files.client.file.StatUpload(ctx, request)
	if err = w.files.client.mapError("write", w.path, err); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return int64(response.GetOffset()), err
}

// skip reads what the guest has already. If r is shorter than that, the write
// begins at r's end, and the checksum or the size tells the rest.
func (w *fileWrite) skip(ctx context.Context, r io.Reader, sum hash.Hash, n int64) (int64, error) {
	b := make([]byte, wire.ChunkSize)
	holes, _ := r.(*sparseFile)
	var done int64
	for done < n {
		hole, data, err := holes.skipHole(n - done)
		if err != nil {
			return done, &sourceError{err}
		}
		if sum != nil {
			if err := sparse.WriteZeros(sum, hole, ctx.Err); err != nil {
				return done, err
			}
		}
		done += hole
		w.progress(hole)
		m, end, err := fill(r, b[:min(n-done, data, wire.ChunkSize)])
		if sum != nil {
			sum.Write(b[:m])
		}
		done += int64(m)
		w.progress(int64(m))
		if err != nil {
			return done, &sourceError{err}
		}
		if end {
			break
		}
	}
	return done, nil
}

func (w *fileWrite) start(resumed int64) (*guestdv1.WriteRequest, error) {
	o := &w.options
	if o.Offset < 0 || o.Size < 0 {
		return nil, fmt.Errorf("%w: negative offset or size", ErrInvalidRequest)
	}
	start := &guestdv1.WriteStart{
		Context:     w.files.where(),
		Mode:        o.Mode.toWire(),
		Owner:       o.Owner,
		ModifyTime:  timeToWire(o.ModTime),
		MakeParents: o.Parents,
		Sync:        o.Sync,
		ResumeId:    o.ResumeID,
		Offset:      uint64(resumed + o.Offset),
		Checksum:    o.Checksum.toWire(),
		Holes:       w.holes != nil,
	}
	start.Path, start.RawPath = toWire(w.path)
	start.Permissions = w.perm
	if w.perm == nil && o.Perm != 0 {
		start.Permissions = new(modeToWire(o.Perm))
	}
	if o.Size > 0 {
		start.Size = new(uint64(o.Size))
	}
	return &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: start}}, nil
}

// send sends the rest of r. The error io.EOF means that the agent has ended the
// call.
func (w *fileWrite) send(call guestdv1.FileService_WriteClient, r io.Reader, sum hash.Hash) error {
	sender := bulkSender{call: call, field: writeDataField, pool: &w.files.client.pool}
	at := w.resumedAt
	most := w.chunk()
	chunk := most
	if w.broke {
		chunk = min(shortChunk, most)
	}
	for {
		hole, data, err := w.holes.skipHole(math.MaxInt64)
		if err != nil {
			return &sourceError{err}
		}
		if err := sendHole(call, hole, sum); err != nil {
			return err
		}
		w.progress(hole)
		at += hole
		sender.chunk = int(min(int64(chunk), data))
		b := sender.buffer()
		n, end, err := fill(r, *b)
		if err != nil {
			sender.drop(b)
			return &sourceError{err}
		}
		if sum != nil {
			sum.Write((*b)[:n])
		}
		if err := sender.send(b, n); err != nil {
			return err
		}
		w.progress(int64(n))
		at += int64(n)
		w.most = max(w.most, at)
		if end {
			return nil
		}
		chunk = min(4*chunk, most)
	}
}

// sendHole reports a hole of n bytes to the agent; for 0 it does nothing. The
// error io.EOF means the same as that of send.
func sendHole(call guestdv1.FileService_WriteClient, n int64, sum hash.Hash) error {
	if n == 0 {
		return nil
	}
	// The agent can sum up the zeros while this side does.
	err := call.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Hole{Hole: uint64(n)}})
	if err != nil || sum == nil {
		return err
	}
	return sparse.WriteZeros(sum, n, func() error {
		if call.Context().Err() != nil {
			return io.EOF
		}
		return nil
	})
}

// shortChunk is the size of the first pieces after a broken connection. A piece
// that does not arrive whole does not arrive at all, so with large ones a transfer
// would never get anywhere over connections that break before one is through.
const shortChunk = 16 << 10

// chunk is the size of the pieces in which the file is sent. With larger pieces
// both ends wait for each other less often; but a source of unknown size may be
// slow, and then a large piece would take long to fill. One byte more than a small
// file has lets the read of its first piece find its end.
func (w *fileWrite) chunk() int {
	if w.options.Size == 0 {
		return wire.ChunkSize
	}
	const least = 4 << 10 // if the source has more than Size says
	return int(min(max(w.options.Size-w.resumedAt+1, least), wire.MaxData))
}

func (w *fileWrite) commit(call guestdv1.FileService_WriteClient, sum hash.Hash) error {
	return call.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Commit{Commit: &guestdv1.WriteCommit{
		Checksum: &guestdv1.Checksum{Type: w.options.Checksum.toWire(), Value: sum.Sum(nil)},
	}}})
}

func (w *fileWrite) progress(n int64) {
	if w.sent != nil && n > 0 {
		w.sent(n)
	}
}

// sourceError is an error of the caller's reader, not of the call.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

func (e *sourceError) Unwrap() error { return e.err }
