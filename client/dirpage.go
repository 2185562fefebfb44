package client

import (
	"iter"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// The fields of ReadDirResponse, and those of FileInfo that a listing of names
// has. A test compares them with the descriptors.
const (
	pageEntries protowire.Number = 1
	pageToken   protowire.Number = 2
	entryName   protowire.Number = 1
	entryKind   protowire.Number = 5
)

// dirPage is a ReadDirResponse whose entries are decoded when they are wanted:
// a million messages of twenty fields, of which two are used, cost more than
// all else in a listing.
type dirPage struct {
	encoded []byte
	token   []byte // of the next page; empty after the last
}

// parsePage finds the token in an encoded ReadDirResponse, and that its fields
// are whole. It keeps encoded.
func parsePage(encoded []byte) (dirPage, error) {
	page := dirPage{encoded: encoded}
	for rest := encoded; len(rest) > 0; {
		field, value, n := consumeField(rest)
		if n < 0 {
			return dirPage{}, protocolError("malformed page of a directory")
		}
		if field == pageToken {
			page.token = value
		}
		rest = rest[n:]
	}
	return page, nil
}

// consumeField reads a field with its tag. Value is that of a string, bytes or
// message field; of others, which are nothing to us, the field is 0. N is the
// field's length, negative if it is malformed.
func consumeField(b []byte) (field protowire.Number, value []byte, n int) {
	field, kind, n := protowire.ConsumeTag(b)
	if n < 0 || !field.IsValid() {
		return 0, nil, -1
	}
	if kind == protowire.BytesType {
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return 0, nil, -1
		}
		return field, value, n + m
	}
	m := protowire.ConsumeFieldValue(field, kind, b[n:])
	if m < 0 {
		return 0, nil, -1
	}
	return 0, nil, n + m
}

// Entries are decoded into blocks of memory, each of which stays as long as one
// of its entries: so they are small.
const (
	blockEntries = 64
	blockText    = 4 << 10 // of the page, names included
)

// entries decodes the entries one after the other. An error is the last.
func (p *dirPage) entries() iter.Seq2[*FileInfo, error] {
	return func(yield func(*FileInfo, error) bool) {
		text := pageText{encoded: p.encoded}
		var block []FileInfo // what is left of one
		for at := 0; at < len(p.encoded); {
			field, value, n := consumeField(p.encoded[at:])
			at += n
			if field != pageEntries {
				continue
			}
			var info *FileInfo
			var err error
			if name, kind, ok := plainEntry(value); ok {
				if len(block) == 0 {
					block = make([]FileInfo, blockEntries)
				}
				info, block = &block[0], block[1:]
				info.name, info.kind = text.slice(at-len(value)+name.from, at-len(value)+name.to), kind
			} else {
				pb := new(guestdv1.FileInfo)
				if err = proto.Unmarshal(value, pb); err != nil {
					err = protocolError("directory entry: %v", err)
				}
				info = infoFromWire(pb)
			}
			if err == nil {
				err = checkEntry(info)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// pageText makes strings of parts of a page, many in one piece of memory.
type pageText struct {
	encoded []byte
	text    string
	begin   int // of text in encoded
}

// slice returns encoded[from:to]. It is cheap for parts that follow each other.
func (t *pageText) slice(from, to int) string {
	if from < t.begin || to > t.begin+len(t.text) {
		t.begin = from
		t.text = string(t.encoded[from:min(len(t.encoded), max(to, from+blockText))])
	}
	return t.text[from-t.begin : to-t.begin]
}

// span is a part of an encoded message.
type span struct{ from, to int }

// plainEntry decodes an encoded FileInfo of nothing but a name and a type. It
// says false for every other, and for what is no FileInfo at all.
func plainEntry(entry []byte) (name span, kind guestdv1.FileType, ok bool) {
	for at := 0; at < len(entry); {
		field, wireType, n := protowire.ConsumeTag(entry[at:])
		if n < 0 {
			return name, kind, false
		}
		at += n
		switch {
		case field == entryName && wireType == protowire.BytesType:
			value, n := protowire.ConsumeBytes(entry[at:])
			if n < 0 || !utf8.Valid(value) {
				return name, kind, false
			}
			at += n
			name = span{at - len(value), at}
		case field == entryKind && wireType == protowire.VarintType:
			value, n := protowire.ConsumeVarint(entry[at:])
			if n < 0 {
				return name, kind, false
			}
			at += n
			kind = guestdv1.FileType(value)
		default:
			return name, kind, false
		}
	}
	return name, kind, true
}

// checkEntry checks what the guest says lies in a directory. Programs join such
// names to paths of this machine, so that one which is not a single element must
// not pass.
func checkEntry(info *FileInfo) error {
	if !isElement(info.name) {
		return protocolError("directory entry %q", info.name)
	}
	return nil
}
