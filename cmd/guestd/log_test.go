//go:build linux

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLogToJournal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]string{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   "<4>msg=careful n=1\n",
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): " level=WARN msg=careful n=1\n",
		"":                                     " level=WARN msg=careful n=1\n",
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if err := file.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		log := newLog(file, slog.LevelWarn)
		log.Info("quiet")
		log.Warn("careful", "n", 1)
		if got, err := os.ReadFile(file.Name()); err != nil || !strings.HasSuffix(string(got), want) || strings.Count(string(got), "\n") != 1 {
			t.Errorf("JOURNAL_STREAM=%s: %q, %v, want …%q", stream, got, err, want)
		}
	}
}
