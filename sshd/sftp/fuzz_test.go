//go:build linux

package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// stream is a client that sends what is in Reader.
type stream struct {
	io.Reader
	sent bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) { return s.sent.Write(p) }
func (s *stream) Close() error                { return nil }

// Handles of what wellFormed is about, in the order in which they are opened.
const (
	fuzzFile  = "\x00\x00\x00\x01" // f, for reading
	fuzzOther = "\x00\x00\x00\x02" // g, for reading and writing
	fuzzDir   = "\x00\x00\x00\x03" // d
)

// opened are the requests that open them.
func opened() [][]byte {
	return [][]byte{
		packet(typeOpen, uint32(1), "f", uint32(openRead), none),
		packet(typeOpen, uint32(2), "g", uint32(openRead|openWrite), none),
		packet(typeOpendir, uint32(3), "d"),
	}
}

// wellFormed is what follows the id in a request, or the name of its extension.
func wellFormed(r *request) []any {
	all := []any{
		uint32(attrSize | attrOwner | attrPerm | attrTimes | attrExtended), uint64(3), ^uint32(0), ^uint32(0),
		uint32(0o644), uint32(1), uint32(2), uint32(1), "name", "value",
	}
	switch r.name {
	case "open":
		return append([]any{"new", uint32(openRead | openWrite | openCreate)}, all...)
	case "close", "fstat", "fsync", "fstatvfs":
		return []any{fuzzOther}
	case "read":
		return []any{fuzzFile, uint64(1), uint32(9)}
	case "write":
		return []any{fuzzOther, uint64(1), "xyz"}
	case "setstat", "lsetstat", "mkdir":
		return append([]any{"f"}, all...)
	case "fsetstat":
		return append([]any{fuzzOther}, all...)
	case "readdir":
		return []any{fuzzDir}
	case "rename", "posix-rename", "hardlink", "symlink":
		return []any{"f", "d/new"}
	case "copy-data":
		return []any{fuzzFile, uint64(0), uint64(0), fuzzOther, uint64(1)}
	case "users-groups-by-id":
		return []any{"\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00"}
	case "home-directory":
		return []any{"root"}
	case "limits":
		return nil
	}
	return []any{"f"}
}

// request makes a packet of a request; body is what wellFormed gives.
func (r *request) packet(id uint32, body []any) []byte {
	head := []any{id}
	if r.kind == typeExtended {
		head = append(head, r.ext)
	}
	return packet(r.kind, append(head, body...)...)
}

// populateForFuzz makes what opened opens.
func populateForFuzz(t testing.TB, dir string) {
	t.Helper()
	writeFile(t, filepath.Join(dir, "f"), "content")
	writeFile(t, filepath.Join(dir, "g"), "")
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// FuzzServe: whatever a client sends, the server ends, answers in whole packets,
// and never more than it was asked.
func FuzzServe(f *testing.F) {
	join := func(packets ...[]byte) []byte {
		return bytes.Join(append([][]byte{packet(typeInit, uint32(3))}, packets...), nil)
	}
	for i := range requests {
		f.Add(join(append(opened(), requests[i].packet(7, wellFormed(&requests[i])))...))
	}
	f.Add(join(packet(typeOpen, uint32(1), "/proc/version", uint32(openRead), none), packet(typeRead, uint32(2), fuzzFile, uint64(0), uint32(99)),
		packet(typeClose, uint32(3), fuzzFile)))
	f.Add(join(packet(typeSetstat, uint32(1), "f", uint32(attrExtended), uint32(1<<31), "a", "b")))
	dir := f.TempDir()
	populateForFuzz(f, dir)
	server := Server{MaxHandles: 8}
	// It must do no harm here: nobody may change the one file and little else, and
	// whom the tests run as nothing.
	if server.ReadOnly = os.Geteuid() != 0; server.ReadOnly {
		server.Files = ownFiles(f, dir)
	} else {
		server.Files = nobodysFiles(f, dir)
	}
	other := filepath.Join(dir, "g")
	f.Fuzz(func(t *testing.T, data []byte) {
		if !server.ReadOnly { // as it was for the one before
			if err := errors.Join(os.Chmod(other, 0o644), os.Truncate(other, 0), os.Chown(other, 65534, 65533)); err != nil {
				t.Fatal(err)
			}
		}
		s := &stream{Reader: bytes.NewReader(data)}
		_ = server.Serve(context.Background(), s)
		answers := 0
		for out := s.sent.Bytes(); len(out) > 0; answers++ {
			if len(out) < lengthSize || uint64(binary.BigEndian.Uint32(out)) > uint64(len(out)-lengthSize) {
				t.Fatalf("half a packet: % x", out[:min(len(out), 64)])
			}
			out = out[lengthSize+binary.BigEndian.Uint32(out):]
		}
		if answers > len(data)/(lengthSize+1) {
			t.Errorf("%d answers to %d bytes", answers, len(data))
		}
	})
}

// A length that is only promised costs nothing.
func TestInputGrowsWithWhatComes(t *testing.T) {
	in := newInput(bytes.NewReader([]byte{0, 4, 0, 0, typeInit}))
	if _, err := in.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("next: %v", err)
	}
	if len(in.buf) > inputBuffer {
		t.Errorf("a buffer of %d bytes for 5", len(in.buf))
	}
}
