//go:build linux

package fsops

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// XattrFlags say what [FS.SetXattr] does about an attribute that is there, or
// not there.
type XattrFlags int

// Flags of setxattr(2).
const (
	XattrEither  XattrFlags = 0                  // create or replace
	XattrCreate  XattrFlags = unix.XATTR_CREATE  // EEXIST when it is there
	XattrReplace XattrFlags = unix.XATTR_REPLACE // ENODATA when it is not
)

// GetXattr returns the value of an extended attribute, such as "user.mime";
// ENODATA says that there is none of that name. With noFollow a symbolic link
// itself is meant, here and in the other three.
func (f *FS) GetXattr(ctx context.Context, path, name string, noFollow bool) ([]byte, error) {
	get := unix.Getxattr
	if noFollow {
		get = unix.Lgetxattr
	}
	var value []byte
	err := f.withPath(ctx, "getxattr", path, func(abs string) (err error) {
		value, err = sized(func(dest []byte) (int, error) { return get(abs, name, dest) })
		return err
	})
	return value, err
}

// SetXattr sets an extended attribute.
func (f *FS) SetXattr(ctx context.Context, path, name string, value []byte, flags XattrFlags, noFollow bool) error {
	set := unix.Setxattr
	if noFollow {
		set = unix.Lsetxattr
	}
	return f.withPath(ctx, "setxattr", path, func(abs string) error {
		return retry(func() error { return set(abs, name, value, int(flags)) })
	})
}

// ListXattr returns the names of the extended attributes that the user may see.
func (f *FS) ListXattr(ctx context.Context, path string, noFollow bool) ([]string, error) {
	list := unix.Listxattr
	if noFollow {
		list = unix.Llistxattr
	}
	var names []string
	err := f.withPath(ctx, "listxattr", path, func(abs string) (err error) {
		names, err = xattrNames(func(dest []byte) (int, error) { return list(abs, dest) })
		return err
	})
	return names, err
}

// RemoveXattr removes an extended attribute; ENODATA says there was none.
func (f *FS) RemoveXattr(ctx context.Context, path, name string, noFollow bool) error {
	remove := unix.Removexattr
	if noFollow {
		remove = unix.Lremovexattr
	}
	return f.withPath(ctx, "removexattr", path, func(abs string) error {
		return retry(func() error { return remove(abs, name) })
	})
}

// xattrNames splits what a call of the listxattr(2) family returns.
func xattrNames(list func(dest []byte) (int, error)) ([]string, error) {
	data, err := sized(list)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), nil
}

// sized calls a function that returns how much it would need when given
// nothing, and ERANGE when somebody made that more in between.
func sized(call func(dest []byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		dest := make([]byte, n)
		n, err = call(dest)
		if errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return dest[:n], nil
	}
}
