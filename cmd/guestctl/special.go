package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/guestd/guestd/client"
)

// isSpecial reports whether a path of this machine is to be opened and read or
// written, not packed or replaced: a device, a FIFO, or a name of an open file in
// /dev, as /dev/stdout and what a shell makes of >(...) are. Any other link to such
// a file does not count, since it may be one that came out of a guest.
func isSpecial(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if info.Mode().Type() == fs.ModeSymlink {
		switch filepath.Dir(filepath.Clean(path)) {
		case "/dev", "/dev/fd":
			info, err = os.Stat(path)
			return err == nil && !info.IsDir()
		}
		return false
	}
	return !info.Mode().IsRegular() && !info.IsDir()
}

func (c *copying) fromSpecial(ctx context.Context, from, to operand, bar *progress) (client.Transfer, error) {
	var file *os.File
	var err error
	c.app.blocked.during(func() { file, err = os.Open(from.path) })
	if err != nil {
		return client.Transfer{}, err
	}
	defer release(file)
	return c.fromStream(ctx, file, to, bar)
}

func (c *copying) toSpecial(ctx context.Context, from, to operand, bar *progress) (client.Transfer, error) {
	// The source first: what cannot be read is not to look like an empty file to
	// a FIFO's reader.
	r, err := c.files.Open(ctx, from.path, client.ReadOptions{AllowSpecial: true})
	if err != nil {
		return client.Transfer{}, err
	}
	defer release(r)
	var file *os.File
	c.app.blocked.during(func() {
		file, err = os.OpenFile(to.path, os.O_WRONLY|os.O_TRUNC, 0) // /dev/stdout may be a file
	})
	if err != nil {
		return client.Transfer{}, err
	}
	n, err := r.WriteTo(bar.writer(c.app.blocked.writer(file), r.Info().Size()))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return client.Transfer{Files: 1, Bytes: n}, err
}
