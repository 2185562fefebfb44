//go:build linux

package main

import (
	"log/slog"
	"os"
	"path/filepath"
)

// toolDir holds links to this binary, by the names of the programs that it
// contains. It comes last in the PATH of SSH sessions, so that clients which
// take these for granted find them in a guest that has none of its own.
const toolDir = "/run/guestd/bin"

// tools are the programs that guestd is when it is called by their names.
func tools() []string { return []string{"scp", "sftp-server"} }

// linkTools makes the links and returns toolDir, or "" where they cannot be
// made: sessions then have what the guest has.
func linkTools(log *slog.Logger) string {
	binary, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(toolDir, 0o755)
	}
	for _, name := range tools() {
		if err == nil {
			err = replaceLink(binary, filepath.Join(toolDir, name))
		}
	}
	if err != nil {
		log.Info("no tools for SSH sessions", "dir", toolDir, "error", err)
		return ""
	}
	return toolDir
}

// replaceLink makes a symbolic link in place of what is there, at once: a
// session may be looking for it.
func replaceLink(target, link string) error {
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	next := link + ".new"
	_ = os.Remove(next) // of an agent that died in between
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, link)
}
