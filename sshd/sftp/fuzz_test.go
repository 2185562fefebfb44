//go:build linux

package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/guestd/guestd/fsops"
)

// stream is a client that sends what is in Reader.
type stream struct {
	io.Reader
	sent bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) { return s.sent.Write(p) }
func (s *stream) Close() error                { return nil }

// FuzzServe: whatever a client sends, the server ends, answers in whole packets,
// and never more than it was asked.
func FuzzServe(f *testing.F) {
	init := packet(typeInit, uint32(3))
	join := func(packets ...[]byte) []byte { return bytes.Join(append([][]byte{init}, packets...), nil) }
	f.Add(join(packet(typeOpen, uint32(1), "f", uint32(openRead), none), packet(typeRead, uint32(2), "\x00\x00\x00\x01", uint64(0), uint32(99)),
		packet(typeClose, uint32(3), "\x00\x00\x00\x01")))
	f.Add(join(packet(typeOpendir, uint32(1), "."), packet(typeReaddir, uint32(2), "\x00\x00\x00\x01")))
	f.Add(join(packet(typeSetstat, uint32(1), "f", uint32(attrExtended), uint32(1<<31), "a", "b")))
	for _, r := range requests {
		if r.kind == typeExtended {
			f.Add(join(packet(typeExtended, uint32(7), r.ext, "~", "f", uint64(1))))
		} else {
			f.Add(join(packet(r.kind, uint32(7), "f", "g", uint64(1))))
		}
	}
	system, err := fsops.New(fsops.Config{})
	if err != nil {
		f.Fatal(err)
	}
	// It must do no harm here: nobody may do little, and read-only nothing.
	user := ""
	if os.Geteuid() == 0 {
		user = "65534:65534"
	}
	files, err := system.AsUser(user, "/proc/sys")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &stream{Reader: bytes.NewReader(data)}
		server := Server{Files: files, ReadOnly: true, MaxHandles: 8}
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
