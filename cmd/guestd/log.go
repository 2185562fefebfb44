//go:build linux

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/guestd/guestd/internal/priolog"
)

// newLog logs to stderr: with priorities where that is systemd's journal, which
// adds the time itself, and else as text.
func newLog(stderr io.Writer, level slog.Level) *slog.Logger {
	if isJournal(stderr) {
		return slog.New(priolog.NewHandler(stderr, priolog.Options{Level: level}))
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// isJournal reports whether w is the stream that systemd has connected to its
// journal: JOURNAL_STREAM holds the device and inode of that (systemd.exec(5)).
func isJournal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
