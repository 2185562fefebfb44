//go:build linux

package fsops

import (
	"context"

	"golang.org/x/sys/unix"
)

// Unlink removes the name of anything but a directory, which gives EISDIR: it
// is unlink(2), where [FS.Remove] takes either.
func (f *FS) Unlink(ctx context.Context, path string) error {
	return f.withPath(ctx, "unlink", path, func(abs string) error {
		return retry(func() error { return unix.Unlinkat(unix.AT_FDCWD, abs, 0) })
	})
}

// Rmdir removes an empty directory; anything else gives ENOTDIR. It is rmdir(2).
func (f *FS) Rmdir(ctx context.Context, path string) error {
	return f.withPath(ctx, "rmdir", path, func(abs string) error {
		return retry(func() error { return unix.Unlinkat(unix.AT_FDCWD, abs, unix.AT_REMOVEDIR) })
	})
}
