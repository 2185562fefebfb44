//go:build linux

package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/guestd/guestd/internal/access"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// maxEndedCasts is how many recordings are kept whose channel has ended: its
// last output may still be to come.
const maxEndedCasts = 100

// casts are the recordings of one watcher. What they hold is bounded by the
// channels that there are.
type casts struct {
	store *access.Store
	all   map[castKey]*cast
	ended int
}

type castKey struct{ connection, channel string }

// cast is the asciicast, version 2, of one channel:
// https://docs.asciinema.org/manual/asciicast/v2/.
type cast struct {
	began   time.Duration // offset in the channel of the recording's first event
	partial []byte        // the beginning of a character whose rest is to come
	ended   bool
}

func newCasts(store *access.Store) *casts {
	return &casts{store: store, all: make(map[castKey]*cast)}
}

// record puts the lines of a terminal's event into its message, in place of
// what they say, and keeps account of what has ended.
func (c *casts) record(e *access.Event, m *guestdv1.SessionEvent) {
	if e.Missed > 0 {
		c.forgetClosed()
	}
	key := castKey{e.Connection, e.Session}
	switch e.Kind {
	case access.EventTerminal:
		if e.Terminal == nil {
			return
		}
		m.Terminal.Cast = c.lines(key, e)
		m.Terminal.Output, m.Terminal.Size, m.Terminal.Term = nil, nil, ""
	case access.EventSessionEnded:
		if recording := c.all[key]; recording != nil && !recording.ended {
			recording.ended = true
			c.ended++
		}
		if c.ended > maxEndedCasts {
			c.forget(func(_ castKey, recording *cast) bool { return recording.ended })
		}
	case access.EventClosed:
		c.forget(func(k castKey, _ *cast) bool { return k.connection == e.Connection })
	}
}

// forget drops recordings.
func (c *casts) forget(which func(castKey, *cast) bool) {
	for key, recording := range c.all {
		if !which(key, recording) {
			continue
		}
		if recording.ended {
			c.ended--
		}
		delete(c.all, key)
	}
}

// forgetClosed drops what belongs to connections that are gone: that they
// closed may have been among what was missed.
func (c *casts) forgetClosed() {
	open := make(map[string]bool)
	for _, connection := range c.store.Connections() {
		open[connection.ID] = true
	}
	c.forget(func(key castKey, _ *cast) bool { return !open[key.connection] })
}

// lines are what an event adds to its channel's recording.
func (c *casts) lines(key castKey, e *access.Event) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out) // ends each value with a newline
	encoder.SetEscapeHTML(false)
	t := e.Terminal
	recording := c.all[key]
	if recording == nil {
		recording = &cast{}
		if !t.Start {
			recording.began = t.At // the terminal was there before the watch
		}
		c.all[key] = recording
		writeCast(encoder, newCastHeader(e, recording.began))
	}
	at := max(0, t.At-recording.began).Seconds()
	if e.Missed > 0 {
		writeCast(encoder, []any{at, "m", fmt.Sprintf("%d events are missing here", e.Missed)})
	}
	if t.Rows != 0 && t.Cols != 0 && !t.Start {
		writeCast(encoder, []any{at, "r", fmt.Sprintf("%dx%d", t.Cols, t.Rows)})
	}
	if text := recording.text(t.Output); len(text) > 0 {
		writeCast(encoder, []any{at, "o", string(text)})
	}
	return out.Bytes()
}

// text is output in whole characters; the beginning of one is kept for the
// next time. What is not UTF-8 at all becomes U+FFFD in JSON.
func (r *cast) text(output []byte) []byte {
	text := append(r.partial, output...)
	r.partial = nil
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		tail := text[len(text)-n:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				r.partial = bytes.Clone(tail)
				text = text[:len(text)-n]
			}
			break
		}
	}
	return text
}

// castHeader is the first line of a recording.
type castHeader struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Env       map[string]string `json:"env,omitempty"`
}

// newCastHeader is the header of a recording that begins with e. The size of a
// terminal that was there before is only known when it changes.
func newCastHeader(e *access.Event, began time.Duration) castHeader {
	t := e.Terminal
	h := castHeader{
		Version: 2, Width: int(cmp.Or(t.Cols, 80)), Height: int(cmp.Or(t.Rows, 24)),
		Timestamp: e.Time.Add(began - t.At).Unix(),
	}
	if t.Term != "" {
		h.Env = map[string]string{"TERM": t.Term}
	}
	return h
}

// writeCast writes one line. Strings and numbers always marshal, and a buffer
// always takes them.
func writeCast(encoder *json.Encoder, line any) { _ = encoder.Encode(line) }
