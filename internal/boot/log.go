//go:build linux

package boot

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
)

// defaultLog is the kernel's log in a machine, where it carries the kernel's
// own time stamps and ends on every console, and stderr in a container.
func defaultLog(container bool) *slog.Logger {
	if !container {
		if kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
			return slog.New(newKernelHandler(kmsg))
		}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// kernelHandler writes each record as one line of /dev/kmsg, which takes one
// record per write with its priority (syslog(3)) in front.
type kernelHandler struct {
	slog.Handler
	out *kernelWriter
}

type kernelWriter struct {
	mu       sync.Mutex // held from setting priority to the write
	w        io.Writer
	priority string
}

func newKernelHandler(w io.Writer) kernelHandler {
	out := &kernelWriter{w: w}
	// The kernel knows the time and the priority.
	drop := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	return kernelHandler{slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: drop}), out}
}

func (h kernelHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.priority = "<3>"
	case r.Level >= slog.LevelWarn:
		h.out.priority = "<4>"
	case r.Level >= slog.LevelInfo:
		h.out.priority = "<5>"
	default:
		h.out.priority = "<7>"
	}
	return h.Handler.Handle(ctx, r)
}

func (h kernelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return kernelHandler{h.Handler.WithAttrs(attrs), h.out}
}

func (h kernelHandler) WithGroup(name string) slog.Handler {
	return kernelHandler{h.Handler.WithGroup(name), h.out}
}

func (w *kernelWriter) Write(p []byte) (int, error) {
	if _, err := w.w.Write(append([]byte(w.priority+"guestd: "), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
