package client

import (
	"context"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Link gives the file target a second name, path (a hard link).
func (f *Files) Link(ctx context.Context, target, path string) error {
	request := &guestdv1.LinkRequest{Context: f.where()}
	request.Target, request.RawTarget = toWire(target)
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Link(ctx, request)
	return f.client.mapError("link", path, err)
}

// Symlink makes path a symbolic link to target, which is stored as it is.
func (f *Files) Symlink(ctx context.Context, target, path string) error {
	request := &guestdv1.SymlinkRequest{Context: f.where()}
	request.Target, request.RawTarget = toWire(target)
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Symlink(ctx, request)
	return f.client.mapError("symlink", path, err)
}

// Readlink returns what a symbolic link holds.
func (f *Files) Readlink(ctx context.Context, path string) (string, error) {
	request := &guestdv1.ReadLinkRequest{Context: f.where()}
	request.Path, request.RawPath = toWire(path)
	response, err := f.client.file.ReadLink(ctx, request)
	if err != nil {
		return "", f.client.mapError("readlink", path, err)
	}
	return fromWire(response.GetTarget(), response.GetRawTarget()), nil
}

// RealPath resolves every symbolic link, "." and ".." of a path. The path must
// exist; with allowMissing, its last elements need not. The empty path is the
// base.
func (f *Files) RealPath(ctx context.Context, path string, allowMissing bool) (string, error) {
	request := &guestdv1.RealPathRequest{Context: f.where(), AllowMissing: allowMissing}
	request.Path, request.RawPath = toWire(path)
	response, err := f.client.file.RealPath(ctx, request)
	if err != nil {
		return "", f.client.mapError("realpath", path, err)
	}
	return fromWire(response.GetPath(), response.GetRawPath()), nil
}
