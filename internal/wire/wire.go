// Package wire is the gRPC codec of guestd: the standard protobuf encoding,
// byte for byte, with a short cut for bulk data.
//
// The standard codec copies every message twice, once between the application
// and a buffer of the message's size, once between that and the transport's
// frames. For nearly all messages that is nothing. For the file and output
// chunks that make up gigabytes it is most of the work. So [Codec] knows, beside
// ordinary messages and [Raw] ones, two values that a stream can send and one
// that it can receive:
//
//	stream.SendMsg(&wire.Data{Field: 2, Payload: buf})   // {bytes data = 2}
//	stream.SendMsg(&wire.Chunk{Field: 2, Offset: o, Payload: buf})
//	in := wire.Incoming{DataField: 2, Message: new(pb.WriteRequest)}
//	stream.RecvMsg(&in)
//
// The sender's buffer goes to the transport as it is, and the receiver gets the
// transport's buffers as they came. The peer cannot tell: it may use the same
// codec, gRPC's own, or another language.
//
// # Ownership of buffers
//
// Buffers are reference counted (package mem of gRPC). Three rules hold:
//
//   - Who makes a payload (see [Pool]) owns one reference and must call Free once.
//   - SendMsg borrows: the codec takes references of its own for as long as the
//     transport reads the payload. After SendMsg has returned, with or without
//     an error, the caller frees its own and must not write to the buffer.
//   - RecvMsg gives: what an [Incoming] holds belongs to the receiver until
//     [Incoming.Free] or the next RecvMsg into it.
//
// A forgotten Free is no leak in the end, as the memory is the garbage
// collector's, but costs the reuse. A Free too many panics.
package wire

// Sizes for both ends of a connection. BenchmarkUpload and BenchmarkDownload
// show what they are worth beside a raw copy in the same run.
const (
	// ChunkSize is how much data to put into one bulk message. Less costs
	// switches of goroutines; more only holds memory.
	ChunkSize = 256 << 10

	// MaxData is the largest payload that the wire contract allows in one
	// bulk message.
	MaxData = 1 << 20

	// ReadBuffer is how much to read from the socket at once: eight full
	// HTTP/2 frames, where gRPC's default holds two. It saves system calls
	// for bulk data, and up to a fifth of the processor time of an upload.
	ReadBuffer = 128 << 10

	// WriteBuffer is how much to write to the socket at once, for the same
	// reason; it saves some hundredths. GRPC takes it from a pool while there
	// is something to write, so that it costs an idle connection nothing.
	WriteBuffer = 128 << 10

	// StreamWindow is how much the agent may send on a stream that the host
	// does not read. It must stay well below the 1 MiB that the agent keeps of
	// a process's output, from which the rest is sent again when a connection
	// breaks. It is fixed, because gRPC's own estimate grows to 16 MiB for each
	// of thousands of streams once one of them was fast. A reader of a larger
	// message gets a larger window for it anyway: hence [MaxData] for files.
	StreamWindow = 256 << 10

	// UploadWindow is how much the host may send on a stream that the agent
	// does not read. Uploads wait for it at less than this.
	UploadWindow = 2 << 20

	// ConnWindow is the same for all streams together. gRPC opens it again
	// when data arrives, not when it is read, so it bounds no memory and must
	// only be large enough never to be what a transfer waits for.
	ConnWindow = 16 << 20
)
