//go:build linux

package fsops

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultTempDir is where [FS.MkdirTemp] and [FS.CreateTemp] work when no
// directory is named. TMPDIR is the agent's and means nothing to the user.
const defaultTempDir = "/tmp"

// tempTries bounds the attempts at a name that is not in use. With 130 random bits
// a second one is hardly ever needed.
const tempTries = 16

// MkdirTemp makes a new directory with mode 0700 in dir ("" is /tmp) and
// returns its absolute path. The last "*" in pattern is replaced by random
// letters and digits; without one they are added at the end. A pattern with a
// slash is EINVAL.
func (f *FS) MkdirTemp(ctx context.Context, dir, pattern string) (string, error) {
	var made string
	err := f.withTemp(ctx, "mkdirtemp", dir, pattern, func(abs string) error {
		made = abs
		return mkdirAt(unix.AT_FDCWD, abs, 0o700)
	})
	if err != nil {
		return "", err
	}
	return made, nil
}

// CreateTemp is [FS.MkdirTemp] for a file, with mode 0600 and open for reading
// and writing; [Handle.Path] tells its path. The caller closes and removes it.
func (f *FS) CreateTemp(ctx context.Context, dir, pattern string) (*Handle, error) {
	var handle *Handle
	err := f.withTemp(ctx, "createtemp", dir, pattern, func(abs string) error {
		fd, err := createExcl(func(flags int, perm uint32) (int, error) {
			return f.openPath(abs, flags, perm)
		}, unix.O_RDWR|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return err
		}
		info, err := statFD(fd)
		if err != nil {
			closeFD(fd)
			return err
		}
		handle = f.newHandle(fd, abs, info)
		return nil
	})
	return handle, err
}

func (f *FS) withTemp(ctx context.Context, op, dir, pattern string, create func(abs string) error) error {
	if dir == "" {
		dir = defaultTempDir
	}
	return f.withPath(ctx, op, dir, func(abs string) error {
		if strings.ContainsAny(pattern, "/\x00") {
			return unix.EINVAL
		}
		prefix, suffix := pattern, ""
		if i := strings.LastIndexByte(pattern, '*'); i >= 0 {
			prefix, suffix = pattern[:i], pattern[i+1:]
		}
		var err error
		for range tempTries {
			err = create(joinPath(abs, prefix+strings.ToLower(rand.Text())+suffix))
			if !errors.Is(err, unix.EEXIST) {
				break
			}
		}
		return err
	})
}
