//go:build linux

package agent

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/passwd"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Modes of new files and directories where the request names none.
const (
	defaultDirMode  = 0o755
	defaultFileMode = 0o644
)

// Stat implements guestd.v1.FileService.
func (s *fileService) Stat(ctx context.Context, req *guestdv1.StatRequest) (*guestdv1.StatResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	stat := view.Stat
	if req.GetNoFollow() {
		stat = view.Lstat
	}
	info, err := stat(ctx, path)
	if err != nil {
		return nil, err
	}
	wire, err := describe(view, info, path)
	return &guestdv1.StatResponse{Info: wire}, err
}

// describe is the FileInfo, with its absolute path, of a file that a request
// called path.
func describe(view *fsops.FS, info *fsops.FileInfo, path string) (*guestdv1.FileInfo, error) {
	abs, err := view.Resolve(path)
	if err != nil {
		return nil, err
	}
	var c infos
	return c.wire(info, abs), nil
}

// StatFilesystem implements guestd.v1.FileService.
func (s *fileService) StatFilesystem(ctx context.Context, req *guestdv1.StatFilesystemRequest) (*guestdv1.StatFilesystemResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	info, err := view.Statfs(ctx, path)
	if err != nil {
		return nil, err
	}
	return &guestdv1.StatFilesystemResponse{
		TotalBytes:     info.Size,
		FreeBytes:      info.Free,
		AvailableBytes: info.Available,
		TotalInodes:    info.Files,
		FreeInodes:     info.FilesFree,
		BlockBytes:     uint64(info.BlockSize),
		NameMax:        uint64(info.MaxNameSize),
		Type:           uint64(uint32(info.Type)), // 32 bits, and signed on some architectures
		ReadOnly:       info.ReadOnly,
		Fsid:           info.ID,
		Flags:          info.Flags,
	}, nil
}

// Mkdir implements guestd.v1.FileService.
func (s *fileService) Mkdir(ctx context.Context, req *guestdv1.MkdirRequest) (*guestdv1.MkdirResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	mode, err := wireMode("mode", req.Mode)
	if err != nil {
		return nil, err
	}
	perm := uint32(defaultDirMode)
	if mode != nil {
		perm = *mode
	}
	err = view.Mkdir(ctx, path, perm)
	if err == nil || !req.GetParents() {
		return &guestdv1.MkdirResponse{Created: err == nil}, err
	}
	missing := errors.Is(err, fs.ErrNotExist)
	// Asked again in every case: only MkdirAll knows whether what is in the
	// way is the directory itself.
	err = view.MkdirAll(ctx, path, perm)
	return &guestdv1.MkdirResponse{Created: missing}, err
}

// Remove implements guestd.v1.FileService.
func (s *fileService) Remove(ctx context.Context, req *guestdv1.RemoveRequest) (*guestdv1.RemoveResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	result, err := view.Remove(ctx, path, fsops.RemoveOptions{
		Recursive:     req.GetRecursive(),
		IgnoreMissing: req.GetIgnoreMissing(),
	})
	return &guestdv1.RemoveResponse{Removed: uint64(result.Files + result.Dirs)}, err
}

// Rename implements guestd.v1.FileService.
func (s *fileService) Rename(ctx context.Context, req *guestdv1.RenameRequest) (*guestdv1.RenameResponse, error) {
	view, from, to, err := s.fromTo(req)
	if err != nil {
		return nil, err
	}
	mode := fsops.RenameReplace
	switch {
	case req.GetNoReplace() && req.GetExchange():
		return nil, invalidRequest("exchange: cannot be combined with no_replace")
	case req.GetNoReplace():
		mode = fsops.RenameNoReplace
	case req.GetExchange():
		mode = fsops.RenameExchange
	}
	return &guestdv1.RenameResponse{}, view.Rename(ctx, from, to, mode)
}

// Copy implements guestd.v1.FileService.
func (s *fileService) Copy(ctx context.Context, req *guestdv1.CopyRequest) (*guestdv1.CopyResponse, error) {
	view, from, to, err := s.fromTo(req)
	if err != nil {
		return nil, err
	}
	result, err := view.Copy(ctx, from, to, fsops.CopyOptions{
		Recursive: req.GetRecursive(),
		NoReplace: req.GetNoReplace(),
		NoFollow:  req.GetNoFollow(),
		Owner:     view.Identity().UID == 0,
	})
	return &guestdv1.CopyResponse{Bytes: uint64(result.Bytes), Files: uint64(result.Files)}, err
}

// Link implements guestd.v1.FileService.
func (s *fileService) Link(ctx context.Context, req *guestdv1.LinkRequest) (*guestdv1.LinkResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	target, err := requiredPath("target", req.GetTarget(), req.GetRawTarget())
	if err != nil {
		return nil, err
	}
	return &guestdv1.LinkResponse{}, view.Link(ctx, target, path)
}

// Symlink implements guestd.v1.FileService.
func (s *fileService) Symlink(ctx context.Context, req *guestdv1.SymlinkRequest) (*guestdv1.SymlinkResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	target, err := requiredPath("target", req.GetTarget(), req.GetRawTarget())
	if err != nil {
		return nil, err
	}
	return &guestdv1.SymlinkResponse{}, view.Symlink(ctx, target, path)
}

// ReadLink implements guestd.v1.FileService.
func (s *fileService) ReadLink(ctx context.Context, req *guestdv1.ReadLinkRequest) (*guestdv1.ReadLinkResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	target, err := view.Readlink(ctx, path)
	if errors.Is(err, unix.EINVAL) {
		err = wrongType("not a symbolic link", err)
	}
	resp := &guestdv1.ReadLinkResponse{}
	resp.Target, resp.RawTarget = wirePath(target)
	return resp, err
}

// wrongType is a WRONG_TYPE whose errno alone does not say so.
func wrongType(text string, err error) error {
	return &callError{reason: guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE, text: text, err: err}
}

// RealPath implements guestd.v1.FileService.
func (s *fileService) RealPath(ctx context.Context, req *guestdv1.RealPathRequest) (*guestdv1.RealPathResponse, error) {
	path, err := optionalPath("path", req.GetPath(), req.GetRawPath())
	if err != nil {
		return nil, err
	}
	view, err := s.view(req.GetContext())
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = view.Base()
	}
	mode := fsops.RealpathExisting
	if req.GetAllowMissing() {
		mode = fsops.RealpathMissing
	}
	abs, err := view.Realpath(ctx, path, mode)
	resp := &guestdv1.RealPathResponse{}
	resp.Path, resp.RawPath = wirePath(abs)
	return resp, err
}

// Chmod implements guestd.v1.FileService.
func (s *fileService) Chmod(ctx context.Context, req *guestdv1.ChmodRequest) (*guestdv1.ChmodResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	mode, err := wireMode("mode", &req.Mode)
	if err != nil {
		return nil, err
	}
	return &guestdv1.ChmodResponse{}, view.Chmod(ctx, path, *mode)
}

// Chown implements guestd.v1.FileService.
func (s *fileService) Chown(ctx context.Context, req *guestdv1.ChownRequest) (*guestdv1.ChownResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	if req.GetOwner() == "" && req.GetGroup() == "" {
		return nil, invalidRequest("owner: is empty, and so is group")
	}
	uid, err := lookupOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	gid, err := lookupGroup(req.GetGroup())
	if err != nil {
		return nil, err
	}
	chown := view.Chown
	if req.GetNoFollow() {
		chown = view.Lchown
	}
	return &guestdv1.ChownResponse{}, chown(ctx, path, uid, gid)
}

// lookupOwner finds the id of a user by NAME or UID; nil for "".
func lookupOwner(name string) (*uint32, error) {
	if name == "" {
		return nil, nil
	}
	id, err := passwd.Lookup(name)
	return &id.UID, err
}

// lookupGroup finds the id of a group by NAME or GID; nil for "".
func lookupGroup(name string) (*uint32, error) {
	if name == "" {
		return nil, nil
	}
	id, err := passwd.Lookup("0:" + name) // whoever the user is, the group is name's
	return &id.GID, err
}

// Utime implements guestd.v1.FileService.
func (s *fileService) Utime(ctx context.Context, req *guestdv1.UtimeRequest) (*guestdv1.UtimeResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	atime, err := wireTime("access_time", req.GetAccessTime())
	if err != nil {
		return nil, err
	}
	mtime, err := wireTime("modify_time", req.GetModifyTime())
	if err != nil {
		return nil, err
	}
	if atime == nil && mtime == nil {
		now := new(time.Time) // the zero time: the kernel's now
		atime, mtime = now, now
	}
	return &guestdv1.UtimeResponse{}, view.Chtimes(ctx, path, atime, mtime, req.GetNoFollow())
}

// Truncate implements guestd.v1.FileService.
func (s *fileService) Truncate(ctx context.Context, req *guestdv1.TruncateRequest) (*guestdv1.TruncateResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	size, err := wireSize("size", req.GetSize())
	if err != nil {
		return nil, err
	}
	return &guestdv1.TruncateResponse{}, view.Truncate(ctx, path, size)
}

// wireSize checks a size or offset of a request, which the kernel takes as a
// signed number.
func wireSize(field string, size uint64) (int64, error) {
	if size > math.MaxInt64 {
		return 0, invalidRequest("%s: %d is more than a file can have", field, size)
	}
	return int64(size), nil
}

// MakeTemp implements guestd.v1.FileService.
func (s *fileService) MakeTemp(ctx context.Context, req *guestdv1.MakeTempRequest) (*guestdv1.MakeTempResponse, error) {
	view, err := s.view(req.GetContext())
	if err != nil {
		return nil, err
	}
	dir, err := optionalPath("dir", req.GetDir(), req.GetRawDir())
	if err != nil {
		return nil, err
	}
	pattern, err := tempPattern(req.GetPattern())
	if err != nil {
		return nil, err
	}
	var path string
	if req.GetDirectory() {
		path, err = view.MkdirTemp(ctx, dir, pattern)
	} else {
		path, err = createTemp(ctx, view, dir, pattern)
	}
	resp := &guestdv1.MakeTempResponse{}
	resp.Path, resp.RawPath = wirePath(path)
	return resp, err
}

// createTemp makes an empty temporary file and returns its path.
func createTemp(ctx context.Context, view *fsops.FS, dir, pattern string) (string, error) {
	file, err := view.CreateTemp(ctx, dir, pattern)
	if err != nil {
		return "", err
	}
	return file.Path(), file.Close()
}

// tempPattern checks the pattern of a temporary name, which is one element.
func tempPattern(pattern string) (string, error) {
	switch {
	case pattern == "":
		return "tmp-*", nil
	case strings.ContainsAny(pattern, "/\x00"):
		return "", invalidRequest("pattern: %q has a slash or a NUL byte", pattern)
	}
	return pattern, nil
}
