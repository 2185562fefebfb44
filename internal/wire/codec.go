package wire

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	stock "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Codec is an encoding.CodecV2 for protobuf. Make it with [NewCodec] and give
// it to grpc.ForceServerCodecV2 or grpc.ForceCodecV2; it is not registered
// globally. It has no state: one may serve any number of connections.
type Codec struct {
	stock encoding.CodecV2
}

// NewCodec returns the codec. What is no bulk value goes through gRPC's own
// protobuf codec.
func NewCodec() Codec {
	return Codec{stock: encoding.GetCodecV2(stock.Name)}
}

// Name returns "proto": on the wire this is gRPC's own codec.
func (c Codec) Name() string { return stock.Name }

// Marshal encodes v: a *[Data], a *[Chunk] or a proto.Message.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *Data:
		return v.marshal()
	case *Chunk:
		return v.marshal()
	}
	return c.stock.Marshal(v)
}

// Unmarshal decodes data into v: an *[Incoming], a *[Raw] or a proto.Message.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if raw, ok := v.(*Raw); ok {
		*raw = data.Materialize()
		return nil
	}
	in, ok := v.(*Incoming)
	if !ok {
		return c.stock.Unmarshal(data, v)
	}
	in.Free()
	if in.take(data) {
		return nil
	}
	if in.Message == nil {
		return errors.New("wire: message is no bulk data, and Incoming has no Message")
	}
	return c.stock.Unmarshal(data, in.Message)
}

// Raw receives a message as it is on the wire, for who decodes it themselves.
// The bytes are the receiver's own.
type Raw []byte

// Data is a message to be sent whose only content is one bytes field, such as
// WriteRequest{data}. The payload is not copied.
type Data struct {
	// Field is the bytes field's number.
	Field protowire.Number
	// Payload is its value. It may be empty; nil is empty.
	Payload mem.Buffer
}

// marshal returns the field's header and the payload.
func (d *Data) marshal() (mem.BufferSlice, error) {
	if !d.Field.IsValid() {
		return nil, fmt.Errorf("wire: field number %d", d.Field)
	}
	size := length(d.Payload)
	header := make([]byte, 0, maxHeader)
	header = protowire.AppendTag(header, d.Field, protowire.BytesType)
	header = protowire.AppendVarint(header, uint64(size))
	return join(header, d.Payload), nil
}

// Chunk is a message to be sent whose only content is an OutputChunk, such as
// ExecResponse{stdout{offset, data}}. The payload is not copied.
type Chunk struct {
	// Field is the OutputChunk field's number.
	Field protowire.Number
	// Offset is OutputChunk.offset.
	Offset uint64
	// Payload is OutputChunk.data. It may be empty; nil is empty.
	Payload mem.Buffer
}

// The fields of guestd.v1.OutputChunk. A test compares them with its
// descriptor.
const (
	chunkOffset protowire.Number = 1
	chunkData   protowire.Number = 2
)

// maxHeader is room for everything that comes before the payload: at most two
// tags of five bytes, two of one, and three varints of ten.
const maxHeader = 48

// marshal returns what comes before the payload, and the payload. Fields that
// have their default value are absent, as in all proto3 messages.
func (c *Chunk) marshal() (mem.BufferSlice, error) {
	if !c.Field.IsValid() {
		return nil, fmt.Errorf("wire: field number %d", c.Field)
	}
	size := length(c.Payload)
	inner := make([]byte, 0, maxHeader)
	if c.Offset != 0 {
		inner = protowire.AppendTag(inner, chunkOffset, protowire.VarintType)
		inner = protowire.AppendVarint(inner, c.Offset)
	}
	if size != 0 {
		inner = protowire.AppendTag(inner, chunkData, protowire.BytesType)
		inner = protowire.AppendVarint(inner, uint64(size))
	}
	header := make([]byte, 0, maxHeader)
	header = protowire.AppendTag(header, c.Field, protowire.BytesType)
	header = protowire.AppendVarint(header, uint64(len(inner)+size))
	return join(append(header, inner...), c.Payload), nil
}

// length is a payload's size; 0 for none.
func length(payload mem.Buffer) int {
	if payload == nil {
		return 0
	}
	return payload.Len()
}

// join puts a payload behind its header and takes a reference to it for the
// transport.
func join(header []byte, payload mem.Buffer) mem.BufferSlice {
	if length(payload) == 0 {
		return mem.BufferSlice{mem.SliceBuffer(header)}
	}
	payload.Ref()
	return mem.BufferSlice{mem.SliceBuffer(header), payload}
}

// Incoming receives a message that may be bulk data. Set the fields, then call
// RecvMsg with it, again and again; it is for one goroutine.
//
// A message is bulk data if it consists of exactly one field, that is
// DataField or one of ChunkFields, with nothing else and nothing twice.
// Everything else, and every unusual encoding of the same thing, is decoded
// into Message: a receiver must be ready to find bulk data there, too.
type Incoming struct {
	// DataField is the number of a bytes field; 0 is none.
	DataField protowire.Number
	// ChunkFields are numbers of OutputChunk fields; nil is none.
	ChunkFields []protowire.Number
	// Message gets what is no bulk data, and is reset before. It is left
	// alone by bulk data. Nil makes the receipt of anything else an error.
	Message proto.Message

	field   protowire.Number
	offset  uint64
	size    int
	buffers mem.BufferSlice
}

// Bulk returns which bulk field was received, or 0 if Message was filled.
func (in *Incoming) Bulk() protowire.Number { return in.field }

// Offset returns the OutputChunk's offset; 0 for a bytes field.
func (in *Incoming) Offset() uint64 { return in.offset }

// Len returns the number of bytes received.
func (in *Incoming) Len() int { return in.size }

// AppendTo appends the received bytes to list as the pieces in which they
// came, each of at most 16 KiB, fit for writev(2). The pieces are read-only
// and valid until [Incoming.Free] or the next RecvMsg.
func (in *Incoming) AppendTo(list [][]byte) [][]byte {
	for _, b := range in.buffers {
		list = append(list, b.ReadOnlyData())
	}
	return list
}

// CopyTo copies the received bytes to dst and returns how many: at most
// len(dst).
func (in *Incoming) CopyTo(dst []byte) int { return in.buffers.CopyTo(dst) }

// Take hands the received bytes to the caller, who frees them; in holds nothing
// then. It is for those who pass them on to another goroutine.
func (in *Incoming) Take() mem.BufferSlice {
	buffers := in.buffers
	in.buffers = nil
	in.Free()
	return buffers
}

// Free gives the received bytes back. It may be called at any time and more
// than once.
func (in *Incoming) Free() {
	in.buffers.Free()
	clear(in.buffers)
	in.buffers = in.buffers[:0]
	in.field, in.offset, in.size = 0, 0, 0
}

// take keeps the payload of data if it is bulk data, and reports whether it is.
func (in *Incoming) take(data mem.BufferSlice) bool {
	var scratch [maxHeader]byte
	total := data.Len()
	head := scratch[:data.CopyTo(scratch[:])]
	h, ok := in.parse(head, total)
	if !ok {
		return false
	}
	in.field, in.offset, in.size = h.field, h.offset, total-h.length
	skip := h.length
	for _, b := range data {
		size := b.Len()
		if skip >= size {
			skip -= size
			continue
		}
		in.buffers = append(in.buffers, b.Slice(skip, size))
		skip = 0
	}
	return true
}

// header is what comes before a payload.
type header struct {
	field  protowire.Number
	offset uint64
	length int // bytes of the header itself
}

// parse reads the header at the beginning of a message of total bytes, of
// which head are the first; false if the message is not bulk data in the form
// in which every encoder writes it.
func (in *Incoming) parse(head []byte, total int) (header, bool) {
	field, rest, ok := consumeLength(head, total)
	switch {
	case !ok || field == 0:
		return header{}, false
	case field == in.DataField:
		return header{field: field, length: len(head) - len(rest)}, true
	}
	chunk := false
	for _, f := range in.ChunkFields {
		chunk = chunk || f == field
	}
	if !chunk {
		return header{}, false
	}
	h := header{field: field}
	if num, typ, n := protowire.ConsumeTag(rest); n > 0 && num == chunkOffset && typ == protowire.VarintType {
		value, m := protowire.ConsumeVarint(rest[n:])
		if m < 0 {
			return header{}, false
		}
		h.offset = value
		rest = rest[n+m:]
	}
	inner, rest, ok := consumeLength(rest, total-(len(head)-len(rest)))
	if !ok || inner != chunkData {
		return header{}, false
	}
	h.length = len(head) - len(rest)
	return h, true
}

// consumeLength reads the tag and length of a length-delimited field that
// reaches exactly to the end of the total bytes of which b are the first. It
// returns the field's number and what of b is its value.
func consumeLength(b []byte, total int) (protowire.Number, []byte, bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || typ != protowire.BytesType {
		return 0, nil, false
	}
	size, m := protowire.ConsumeVarint(b[n:])
	if m < 0 || size != uint64(total-n-m) {
		return 0, nil, false
	}
	return num, b[n+m:], true
}
