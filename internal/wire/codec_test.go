package wire_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"google.golang.org/grpc/encoding"
	stock "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// payload returns a buffer of the pool that holds data.
func payload(pool *wire.Pool, data []byte) mem.Buffer {
	b := pool.Get(len(data))
	copy(*b, data)
	return mem.NewBuffer(b, pool)
}

// countingPool counts what is out.
type countingPool struct {
	wire.Pool
	out int
}

func (p *countingPool) Get(n int) *[]byte { p.out++; return p.Pool.Get(n) }
func (p *countingPool) Put(b *[]byte)     { p.out--; p.Pool.Put(b) }

// pieces cuts data into buffers of at most size bytes, as HTTP/2 does.
func pieces(pool mem.BufferPool, data []byte, size int) mem.BufferSlice {
	var s mem.BufferSlice
	for len(data) > 0 {
		n := min(size, len(data))
		b := pool.Get(n)
		copy(*b, data[:n])
		s = append(s, mem.NewBuffer(b, pool))
		data = data[n:]
	}
	return s
}

// content joins what in holds.
func content(in *wire.Incoming) []byte {
	return bytes.Join(in.AppendTo(nil), nil)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestChunkFieldsAreThoseOfOutputChunk(t *testing.T) {
	fields := (&guestdv1.OutputChunk{}).ProtoReflect().Descriptor().Fields()
	if fields.Len() != 2 || fields.ByName("offset").Number() != 1 || fields.ByName("data").Number() != 2 {
		t.Fatalf("OutputChunk has changed: %v", fields)
	}
}

func TestMarshalIsProtobuf(t *testing.T) {
	var pool wire.Pool
	codec := wire.NewCodec()
	for _, size := range []int{0, 1, 127, 128, 1000, 1 << 14, wire.ChunkSize, wire.MaxData} {
		data := pattern(size)
		cases := map[string]struct {
			send any
			same proto.Message
		}{
			"WriteRequest": {
				&wire.Data{Field: 2, Payload: payload(&pool, data)},
				&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: data}},
			},
			"DownloadTreeResponse": {
				&wire.Data{Field: 1, Payload: payload(&pool, data)},
				&guestdv1.DownloadTreeResponse{Part: &guestdv1.DownloadTreeResponse_Data{Data: data}},
			},
			"stdout": {
				&wire.Chunk{Field: 2, Offset: 300, Payload: payload(&pool, data)},
				&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{
					Stdout: &guestdv1.OutputChunk{Offset: 300, Data: data},
				}},
			},
			"stderr at 0": {
				&wire.Chunk{Field: 3, Payload: payload(&pool, data)},
				&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stderr{
					Stderr: &guestdv1.OutputChunk{Data: data},
				}},
			},
			"stdout at the end": {
				&wire.Chunk{Field: 2, Offset: math.MaxUint64, Payload: payload(&pool, data)},
				&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{
					Stdout: &guestdv1.OutputChunk{Offset: math.MaxUint64, Data: data},
				}},
			},
		}
		for name, c := range cases {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				got, err := codec.Marshal(c.send)
				if err != nil {
					t.Fatal(err)
				}
				defer got.Free()
				want, err := proto.Marshal(c.same)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Materialize(), want) {
					t.Errorf("%d bytes differ from proto.Marshal's %d", got.Len(), len(want))
				}
			})
		}
	}
}

func TestMarshalWithoutPayload(t *testing.T) {
	codec := wire.NewCodec()
	got, err := codec.Marshal(&wire.Data{Field: 2})
	if err != nil || !bytes.Equal(got.Materialize(), []byte{0x12, 0}) {
		t.Errorf("got %x, %v", got.Materialize(), err)
	}
	for _, bad := range []any{&wire.Data{}, &wire.Chunk{Field: -1}, "text", nil} {
		if _, err := codec.Marshal(bad); err == nil {
			t.Errorf("Marshal(%#v) succeeded", bad)
		}
	}
}

// TestReferences follows every buffer through both directions.
func TestReferences(t *testing.T) {
	codec := wire.NewCodec()
	data := pattern(100_000)

	sending := new(countingPool)
	b := sending.Get(len(data))
	copy(*b, data)
	buf := mem.NewBuffer(b, sending)
	out, err := codec.Marshal(&wire.Data{Field: 2, Payload: buf})
	if err != nil {
		t.Fatal(err)
	}
	buf.Free() // the caller's; the transport still has its own
	encoded := out.Materialize()
	if sending.out != 1 {
		t.Errorf("%d buffers out while the transport holds one", sending.out)
	}
	out.Free()
	if sending.out != 0 {
		t.Errorf("%d buffers out after the transport's Free", sending.out)
	}

	receiving := new(countingPool)
	arrived := pieces(receiving, encoded, 16<<10)
	in := wire.Incoming{DataField: 2, Message: new(guestdv1.WriteRequest)}
	if err := codec.Unmarshal(arrived, &in); err != nil {
		t.Fatal(err)
	}
	arrived.Free() // gRPC's
	if in.Bulk() != 2 || in.Len() != len(data) || !bytes.Equal(content(&in), data) {
		t.Errorf("got field %d with %d bytes", in.Bulk(), in.Len())
	}
	part := make([]byte, 10)
	if n := in.CopyTo(part); n != 10 || !bytes.Equal(part, data[:10]) {
		t.Errorf("CopyTo gave %d, %x", n, part)
	}
	if receiving.out == 0 {
		t.Error("buffers were given back while Incoming holds them")
	}
	taken := in.Take()
	if in.Bulk() != 0 || in.Len() != 0 || taken.Len() != len(data) {
		t.Errorf("took %d bytes, left field %d with %d", taken.Len(), in.Bulk(), in.Len())
	}
	if err := codec.Unmarshal(append(mem.BufferSlice{mem.SliceBuffer(encoded[:4])}, taken...), &in); err != nil {
		t.Fatal(err)
	}
	taken.Free()
	if in.Bulk() != 2 || !bytes.Equal(content(&in), data) {
		t.Errorf("got field %d with %d bytes from what was taken", in.Bulk(), in.Len())
	}

	// Another message into the same Incoming gives the first one back.
	message, err := proto.Marshal(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{
		Start: &guestdv1.WriteStart{Path: "/x"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, &in); err != nil {
		t.Fatal(err)
	}
	if receiving.out != 0 {
		t.Errorf("%d buffers out after the next message", receiving.out)
	}
	if in.Bulk() != 0 || in.Len() != 0 || in.Message.(*guestdv1.WriteRequest).GetStart().GetPath() != "/x" {
		t.Errorf("got field %d, %v", in.Bulk(), in.Message)
	}
	in.Free()
	in.Free()
}

func TestIncomingChunk(t *testing.T) {
	codec := wire.NewCodec()
	data := pattern(40_000)
	for _, offset := range []uint64{0, 1, 1 << 40, math.MaxUint64} {
		encoded, err := proto.Marshal(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stderr{
			Stderr: &guestdv1.OutputChunk{Offset: offset, Data: data},
		}})
		if err != nil {
			t.Fatal(err)
		}
		in := wire.Incoming{ChunkFields: []protowire.Number{2, 3}, Message: new(guestdv1.ExecResponse)}
		if err := codec.Unmarshal(pieces(new(wire.Pool), encoded, 16<<10), &in); err != nil {
			t.Fatal(err)
		}
		if in.Bulk() != 3 || in.Offset() != offset || !bytes.Equal(content(&in), data) {
			t.Errorf("offset %d: got field %d, offset %d, %d bytes", offset, in.Bulk(), in.Offset(), in.Len())
		}
		in.Free()
	}
}

// TestUnusualEncodings are valid protobuf for a bulk message that no encoder
// writes: they must be understood all the same.
func TestUnusualEncodings(t *testing.T) {
	codec := wire.NewCodec()
	for name, encoded := range map[string]string{
		"twice":              "\x12\x01a\x12\x01b",
		"unknown field":      "\x12\x01b\x78\x01",
		"unknown in front":   "\x78\x01\x12\x01b",
		"long length varint": "\x12\x81\x00b",
		"long tag varint":    "\x92\x00\x01b",
	} {
		t.Run(name, func(t *testing.T) {
			in := wire.Incoming{DataField: 2, Message: new(guestdv1.WriteRequest)}
			if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded)}, &in); err != nil {
				t.Fatal(err)
			}
			got := content(&in)
			if in.Bulk() == 0 {
				got = in.Message.(*guestdv1.WriteRequest).GetData()
			}
			if string(got) != "b" {
				t.Errorf("got %q", got)
			}
		})
	}
	in := wire.Incoming{DataField: 2}
	if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x0a\x00")}, &in); err == nil {
		t.Error("another message into an Incoming without Message succeeded")
	}
}

// FuzzIncoming compares with proto.Unmarshal, for any bytes in any pieces.
func FuzzIncoming(f *testing.F) {
	for _, m := range []proto.Message{
		&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: pattern(100)}},
		&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Hole{Hole: 100 << 30}},
		&guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Hole{Hole: math.MaxUint64}},
		&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{
			Stdout: &guestdv1.OutputChunk{Offset: 1 << 30, Data: pattern(100)},
		}},
		&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Exit{Exit: &guestdv1.ProcessExit{Code: 1}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 7)
	}
	f.Add([]byte("\x12\x02\x10\x01"), 1)
	f.Add([]byte("\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), 1)
	codec := wire.NewCodec()
	f.Fuzz(func(t *testing.T, encoded []byte, size int) {
		if size < 1 {
			size = 1
		}
		pool := new(countingPool)
		checkData(t, codec, pieces(pool, encoded, size), encoded)
		checkChunk(t, codec, pieces(pool, encoded, size), encoded)
		if pool.out != 0 {
			t.Errorf("%d buffers out", pool.out)
		}
	})
}

func checkData(t *testing.T, codec wire.Codec, data mem.BufferSlice, encoded []byte) {
	want := new(guestdv1.WriteRequest)
	wantErr := proto.Unmarshal(encoded, want)
	in := wire.Incoming{DataField: 2, Message: new(guestdv1.WriteRequest)}
	defer in.Free()
	err := codec.Unmarshal(data, &in)
	data.Free()
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("got %v, want %v", err, wantErr)
	}
	got := in.Message
	if in.Bulk() != 0 {
		got = &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: content(&in)}}
	}
	if err == nil && !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func checkChunk(t *testing.T, codec wire.Codec, data mem.BufferSlice, encoded []byte) {
	want := new(guestdv1.ExecResponse)
	wantErr := proto.Unmarshal(encoded, want)
	in := wire.Incoming{ChunkFields: []protowire.Number{2, 3}, Message: new(guestdv1.ExecResponse)}
	defer in.Free()
	err := codec.Unmarshal(data, &in)
	data.Free()
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("got %v, want %v", err, wantErr)
	}
	got := in.Message
	chunk := &guestdv1.OutputChunk{Offset: in.Offset(), Data: content(&in)}
	switch in.Bulk() {
	case 2:
		got = &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{Stdout: chunk}}
	case 3:
		got = &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stderr{Stderr: chunk}}
	}
	if err == nil && !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// FuzzRoundTrip sends with this codec and receives with gRPC's, and the
// reverse.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint64(5), 1)
	f.Add(pattern(5000), uint64(0), 1000)
	ours, theirs := wire.NewCodec(), encoding.GetCodecV2(stock.Name)
	f.Fuzz(func(t *testing.T, data []byte, offset uint64, size int) {
		if size < 1 {
			size = 1
		}
		pool := new(wire.Pool)
		want := &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{
			Stdout: &guestdv1.OutputChunk{Offset: offset, Data: data},
		}}
		buf := payload(pool, data)
		out, err := ours.Marshal(&wire.Chunk{Field: 2, Offset: offset, Payload: buf})
		buf.Free()
		if err != nil {
			t.Fatal(err)
		}
		got := new(guestdv1.ExecResponse)
		if err := theirs.Unmarshal(out, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("stock receiver got %v, %v", got, err)
		}
		out.Free()

		if out, err = theirs.Marshal(want); err != nil {
			t.Fatal(err)
		}
		arrived := pieces(pool, out.Materialize(), size)
		out.Free()
		checkChunk(t, ours, arrived, arrived.Materialize())
	})
}

// TestBetweenCodecs moves data between every pair of codecs over a real
// connection, in both directions.
func TestBetweenCodecs(t *testing.T) {
	const size = 3*wire.ChunkSize + 12345
	for _, serverFast := range []bool{false, true} {
		for _, clientFast := range []bool{false, true} {
			t.Run(fmt.Sprintf("server=%v,client=%v", serverFast, clientFast), func(t *testing.T) {
				s := &bulkService{fast: serverFast, path: t.TempDir() + "/file", pool: new(wire.Pool)}
				conn := s.start(t, clientFast, nil, nil)
				data := pattern(size)
				if err := upload(conn, bytes.NewReader(data), wire.ChunkSize, clientFast, s.pool); err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if err := download(conn, wire.ChunkSize, clientFast, &got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), data) {
					t.Errorf("got %d bytes back, want the %d that were sent", got.Len(), size)
				}
			})
		}
	}
}

// TestPool gets what it put back, of every class.
func TestPool(t *testing.T) {
	var pool wire.Pool
	for _, size := range []int{0, 1, 4096, 4097, wire.ChunkSize, wire.MaxData, wire.MaxData + 1} {
		b := pool.Get(size)
		if len(*b) != size {
			t.Errorf("Get(%d) has length %d", size, len(*b))
		}
		*b = (*b)[:size/2]
		pool.Put(b)
		if again := pool.Get(size); len(*again) != size {
			t.Errorf("Get(%d) after Put has length %d", size, len(*again))
		}
	}
}
