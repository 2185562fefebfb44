//go:build linux

package agent

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// entriesField is the field "entries" of ReadDirResponse, WalkResponse and
// GlobResponse; a test compares it with their descriptors.
const entriesField protowire.Number = 1

// The fields of FileInfo that a listing of names has, whose tags are all one
// byte long. A test compares them with its descriptor.
const (
	infoName    protowire.Number = 1
	infoRawName protowire.Number = 2
	infoPath    protowire.Number = 3
	infoRawPath protowire.Number = 4
	infoType    protowire.Number = 5
)

// entryBatch gathers the FileInfos of one message. It encodes each when it
// comes: a message of ten thousand would take megabytes while it is made, and
// as much time as the directory itself. The zero value is ready.
type entryBatch struct {
	infos   infos
	info    guestdv1.FileInfo // the one that is being encoded
	encoded []byte            // the field entries, again and again
}

// add appends an entry; path is what FileInfo.path is to be.
func (b *entryBatch) add(entry *fsops.DirEntry, path string) error {
	if entry.Info == nil {
		b.addName(entry, path)
		return nil
	}
	b.infos.fill(&b.info, entry.Info, path)
	b.appendHeader(proto.Size(&b.info))
	encoded, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b.encoded, &b.info)
	if err == nil {
		b.encoded = encoded
	}
	return err
}

// addName appends an entry that has only its name and type, because the file was
// not to be described or could not be.
func (b *entryBatch) addName(entry *fsops.DirEntry, path string) {
	name, rawName := wirePath(entry.Name)
	path, rawPath := wirePath(path)
	kind := uint64(fileType(entry.Type))
	size := fieldSize(len(name)) + fieldSize(len(rawName)) + fieldSize(len(path)) + fieldSize(len(rawPath))
	if kind != 0 {
		size += 1 + protowire.SizeVarint(kind)
	}
	b.appendHeader(size)
	out := appendField(b.encoded, infoName, name)
	out = appendField(out, infoRawName, rawName)
	out = appendField(out, infoPath, path)
	out = appendField(out, infoRawPath, rawPath)
	if kind != 0 {
		out = protowire.AppendTag(out, infoType, protowire.VarintType)
		out = protowire.AppendVarint(out, kind)
	}
	b.encoded = out
}

// appendHeader begins a FileInfo of size bytes.
func (b *entryBatch) appendHeader(size int) {
	b.encoded = protowire.AppendTag(b.encoded, entriesField, protowire.BytesType)
	b.encoded = protowire.AppendVarint(b.encoded, uint64(size))
}

// fieldSize is the size of a string or bytes field whose tag is one byte long;
// 0 for an empty one, which is absent.
func fieldSize(length int) int {
	if length == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(length)
}

// appendField appends a string or bytes field, unless it is empty.
func appendField[T string | []byte](b []byte, field protowire.Number, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(value)))
	return append(b, value...)
}

// size is how many bytes the entries are on the wire.
func (b *entryBatch) size() int { return len(b.encoded) }

// into makes the entries the content of response, whose other fields may be
// set. It hands them over as a field that response does not know: such are sent
// as they are, so that to the receiver they are the entries. They are
// response's until it is encoded.
func (b *entryBatch) into(response proto.Message) {
	response.ProtoReflect().SetUnknown(b.encoded)
}

// reset forgets the entries when they are sent, which is to say encoded: gRPC
// holds on to the message itself for stats handlers only, and there are none.
func (b *entryBatch) reset() { b.encoded = b.encoded[:0] }
