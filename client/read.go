package client

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/sparse"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// readDataField is ReadResponse.data.
const readDataField protowire.Number = 2

// ReadOptions says what of a file to read.
type ReadOptions struct {
	Offset int64 // first byte; a negative one counts from the end
	Length int64 // how many bytes at most; 0: to the end

	// Follow goes on with what is appended later, until the context is done.
	// A file that becomes shorter or is replaced is read from its start again;
	// Reader.Restarts counts that.
	Follow bool

	// AllowSpecial reads from FIFOs and devices too.
	AllowSpecial bool

	// Checksum is how what arrives is checked; with Follow it is not.
	Checksum Checksum
}

// Reader reads a file from the guest. It is for one goroutine; to end a Read
// that waits, cancel Open's context.
type Reader struct {
	client   *Client
	cancel   context.CancelFunc
	ended    func() error // why the call's context has ended, or nil
	call     guestdv1.FileService_ReadClient
	path     string
	info     *FileInfo
	checksum Checksum
	sum      hash.Hash // nil: none
	received uint64    // bytes, those of holes included
	restarts int

	holes  bool   // were asked for
	within uint64 // where holes must end, counted as received is
	hole   int64  // received and not yet passed on; before the rest

	in      wire.Incoming
	message guestdv1.ReadResponse
	list    [][]byte // of in; reused
	pieces  [][]byte // of list, not yet begun
	rest    []byte   // of the piece at hand, not yet read
	err     error    // what comes after all of these
}

// Open opens a file for reading, once and in order. The caller must close the
// reader; the end of ctx ends it as well. The end of the file is io.EOF only if
// its checksum is right; if not, Read's error is [ErrChecksum].
func (f *Files) Open(ctx context.Context, path string, o ReadOptions) (*Reader, error) {
	return f.open(ctx, path, o, false)
}

// open is Open, with holes for [Reader.copyTo] if asked for; the offset must not
// be negative then.
func (f *Files) open(ctx context.Context, path string, o ReadOptions, holes bool) (*Reader, error) {
	request := &guestdv1.ReadRequest{
		Context:      f.where(),
		Offset:       o.Offset,
		Follow:       o.Follow,
		AllowSpecial: o.AllowSpecial,
		Holes:        holes,
	}
	request.Path, request.RawPath = toWire(path)
	if o.Length > 0 {
		request.Length = new(uint64(o.Length))
	}
	r := &Reader{client: f.client, path: path, checksum: o.Checksum, holes: holes}
	if o.Follow {
		r.checksum = NoChecksum
	}
	request.Checksum, r.sum = r.checksum.toWire(), r.checksum.new()
	callCtx, cancel := context.WithCancel(ctx)
	call, err := f.client.file.Read(callCtx, request)
	if err != nil {
		cancel()
		return nil, f.client.mapError("open", path, err)
	}
	r.call, r.cancel, r.ended = call, cancel, callCtx.Err
	r.in = wire.Incoming{DataField: readDataField, Message: &r.message}
	if err := r.begin(); err != nil {
		cancel()
		return nil, f.client.mapError("open", path, err)
	}
	r.within = uint64(max(r.info.Size()-o.Offset, 0))
	return r, nil
}

// begin receives the file's description.
func (r *Reader) begin() error {
	if err := r.call.RecvMsg(&r.in); err != nil {
		return unexpectedEOF(err)
	}
	if r.in.Bulk() != 0 || r.message.GetInfo() == nil {
		return protocolError("no info at the beginning of a read")
	}
	r.info = infoFromWire(r.message.GetInfo())
	return nil
}

// Info describes the file as it was when it was opened.
func (r *Reader) Info() *FileInfo { return r.info }

// Restarts returns how often a followed file started over.
func (r *Reader) Restarts() int { return r.restarts }

// Read reads the next bytes.
func (r *Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if n > 0 && len(r.rest) == 0 && len(r.pieces) == 0 {
			break // do not wait with something to give
		}
		if err := r.advance(); err != nil {
			return n, err
		}
		m := copy(p[n:], r.rest)
		n += m
		r.rest = r.rest[m:]
	}
	return n, nil
}

// WriteTo writes the rest of the file to w, in the pieces of at most 16 KiB in
// which it comes.
func (r *Reader) WriteTo(w io.Writer) (int64, error) { return r.copyTo(w, nil) }

// copyTo is WriteTo; for each hole it calls pass, with the hole's length in bytes.
func (r *Reader) copyTo(w io.Writer, pass func(hole int64) error) (int64, error) {
	var total int64
	for {
		if err := r.advance(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
		if hole := r.hole; hole > 0 {
			r.hole = 0
			if err := pass(hole); err != nil {
				return total, err
			}
			total += hole
			continue
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// Close ends the reading: what is read later is fs.ErrClosed.
func (r *Reader) Close() error {
	r.release()
	return nil
}

func (r *Reader) release() {
	r.cancel()
	r.rest, r.pieces, r.hole = nil, nil, 0 // they are of what is freed
	r.in.Free()
	r.err = &fs.PathError{Op: "read", Path: r.path, Err: fs.ErrClosed}
}

// advance makes sure that there is a rest or a hole, or returns why nothing more
// comes.
func (r *Reader) advance() error {
	for len(r.rest) == 0 && r.hole == 0 {
		if len(r.pieces) > 0 {
			r.rest, r.pieces = r.pieces[0], r.pieces[1:]
			r.received += uint64(len(r.rest))
			if r.sum != nil {
				r.sum.Write(r.rest)
			}
			continue
		}
		if r.err == nil {
			r.err = r.receive()
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// receive waits for the next pieces, which may be none.
func (r *Reader) receive() error {
	r.in.Free() // not held while waiting, which may take long
	if err := r.call.RecvMsg(&r.in); err != nil {
		return r.client.mapError("read", r.path, unexpectedEOF(err))
	}
	if r.in.Bulk() != 0 {
		r.list = r.in.AppendTo(r.list[:0])
		r.pieces = r.list
		return nil
	}
	switch part := r.message.GetPart().(type) {
	case *guestdv1.ReadResponse_Data: // in an encoding that only some agents use
		r.list = append(r.list[:0], part.Data)
		r.pieces = r.list
	case *guestdv1.ReadResponse_Hole:
		return r.takeHole(part.Hole)
	case *guestdv1.ReadResponse_Restarted:
		r.restarts++
	case *guestdv1.ReadResponse_End:
		return r.end(part.End)
	}
	// Else it is something of a newer agent.
	return nil
}

// takeHole takes a hole of n bytes.
func (r *Reader) takeHole(n uint64) error {
	if !r.holes || r.received > r.within || n > r.within-r.received {
		return protocolError("%s: a hole that was not asked for, or reaches beyond the file", r.path)
	}
	r.received += n
	r.hole = int64(n)
	if r.sum == nil {
		return nil
	}
	err := sparse.WriteZeros(r.sum, r.hole, r.ended)
	if err != nil {
		err = status.FromContextError(err).Err()
	}
	return r.client.mapError("read", r.path, err)
}

// end checks what was received; it returns io.EOF if that is right.
func (r *Reader) end(end *guestdv1.ReadEnd) error {
	if end.GetBytes() != r.received {
		return protocolError("%s: %d bytes were sent, %d arrived", r.path, end.GetBytes(), r.received)
	}
	if err := r.checksum.verify(r.path, r.sum, end.GetChecksum()); err != nil {
		return err
	}
	return io.EOF
}

// ReadFile reads a whole file into memory, however large it is. The guest decides
// that: for a file that is not trusted, use [Files.Open] and bound what is read.
func (f *Files) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r, err := f.Open(ctx, path, ReadOptions{})
	if err != nil {
		return nil, err
	}
	defer r.release()
	var content bytes.Buffer
	// The size is the guest's word: it saves copies and is trusted no further.
	content.Grow(int(min(max(r.info.Size(), 0), 4<<20)) + 512)
	if _, err := r.WriteTo(&content); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// unexpectedEOF is for streams that must not end without saying so.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return protocolError("a stream ended early")
	}
	return err
}
