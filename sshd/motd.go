//go:build linux

package sshd

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/guestd/guestd/fsops"
)

const (
	// motdPatience bounds the reading of all greetings: a file system that
	// hangs must not keep people out.
	motdPatience = 2 * time.Second
	maxMotdBytes = 64 << 10
)

// greet shows the messages of the day on a terminal, in front of a login shell,
// unless the user has a ~/.hushlogin: as login(1) does. They are read with the
// user's rights.
func (s *session) greet(ctx context.Context) {
	if s.tty == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, motdPatience)
	defer cancel()
	if _, err := s.conn.files.Stat(ctx, "~/.hushlogin"); err == nil {
		return
	}
	for _, path := range []string{"/run/motd.dynamic", "/etc/motd"} {
		r, err := s.conn.files.OpenRead(ctx, path, fsops.ReadOptions{Length: maxMotdBytes})
		if err != nil {
			continue
		}
		text, err := io.ReadAll(r)
		_ = r.Close()
		if err == nil && len(text) > 0 {
			_, _ = s.channel.Write(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")))
		}
	}
}
