// Package priolog writes log records as lines that begin with a priority of
// syslog(3), "<4>", as the kernel's log (/dev/kmsg) and systemd's journal
// (sd-daemon(3)) take them. Both add the time themselves and show the priority,
// so that the lines have neither time nor level.
package priolog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
)

// Priorities of syslog(3).
const (
	priorityError   = 3
	priorityWarning = 4
	PriorityNotice  = 5
	PriorityInfo    = 6
	priorityDebug   = 7
)

// Options change what a handler writes. The zero value is useful.
type Options struct {
	// Prefix follows the priority on every line.
	Prefix string
	// Info is the priority of [slog.LevelInfo]. Zero: PriorityInfo.
	Info int
	// Level is the least level that is written. Nil: [slog.LevelInfo].
	Level slog.Leveler
}

// NewHandler returns a handler that writes each record to w as one line in one
// Write, with its attributes as [slog.TextHandler] formats them.
func NewHandler(w io.Writer, o Options) slog.Handler {
	if o.Info == 0 {
		o.Info = PriorityInfo
	}
	out := &lineWriter{w: w, prefix: o.Prefix}
	drop := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	return handler{slog.NewTextHandler(out, &slog.HandlerOptions{Level: o.Level, ReplaceAttr: drop}), out, o.Info}
}

type handler struct {
	slog.Handler
	out  *lineWriter
	info int
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.priority = priorityError
	case r.Level >= slog.LevelWarn:
		h.out.priority = priorityWarning
	case r.Level >= slog.LevelInfo:
		h.out.priority = h.info
	default:
		h.out.priority = priorityDebug
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.out, h.info}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.out, h.info}
}

// lineWriter puts the priority and the prefix in front of each line.
type lineWriter struct {
	w      io.Writer
	prefix string

	mu       sync.Mutex // held from setting priority to the write
	priority int
}

func (w *lineWriter) Write(p []byte) (int, error) {
	line := append([]byte{'<'}, strconv.Itoa(w.priority)...)
	line = append(line, '>')
	line = append(line, w.prefix...)
	if _, err := w.w.Write(append(line, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
