package client

import (
	"testing"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Whatever chunks and gaps come, and however they overlap, what is handed out
// goes on where the last event ended.
func FuzzExecStream(f *testing.F) {
	f.Add([]byte{0, 0, 3, 0, 3, 2, 1, 5, 4, 0, 9, 1})
	f.Add([]byte{0, 0, 3, 0, 1, 9, 1, 2, 9, 2, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := &execStream{}
		var at uint64
		begun := false
		for ; len(script) >= 3; script = script[3:] {
			offset, n := uint64(script[1]), uint64(script[2])
			var event execEvent
			var err error
			if script[0]%2 == 0 {
				event, err = s.data(Stdout, offset, make([]byte, n))
			} else {
				event, err = s.gap(&guestdv1.OutputGap{Stream: guestdv1.OutputStream_OUTPUT_STREAM_STDOUT, Offset: offset, Bytes: n})
			}
			if err != nil {
				return
			}
			from, length := event.offset, uint64(len(event.data))
			switch event.kind {
			case eventNone:
				continue
			case eventGap:
				from, length = event.gap.Offset, event.gap.Bytes
			}
			if begun && from != at || length == 0 && event.kind == eventData {
				t.Fatalf("%d bytes at %d, after %d", length, from, at)
			}
			begun, at = true, from+length
		}
		if begun && s.offsets[Stdout].next != at {
			t.Fatalf("position %d, want %d", s.offsets[Stdout].next, at)
		}
	})
}
