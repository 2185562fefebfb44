package client

import (
	"context"
	"io/fs"
	"time"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Files reads and changes the guest's files. Every method takes a context, and
// every path is of the guest: absolute, "~" or "~NAME" for a home directory, or
// relative to the base. Symbolic links are followed unless a method says
// otherwise. Errors are an [*Error] that names the path.
//
// Names are bytes: a path that is not UTF-8 is carried as it is.
//
// A Files holds nothing open, needs no closing, and is safe for concurrent use.
type Files struct {
	client *Client
	user   string
	base   string
}

// Files returns the guest's files with the rights of the agent's own user (root
// in a microVM); relative paths are taken from that user's home directory.
func (c *Client) Files() *Files { return &Files{client: c} }

// FilesAs returns the guest's files with the rights of user,
// NAME|UID[:GROUP|GID]: what is created belongs to that user, and what that user
// may not do fails. Relative paths are taken from base, which is absolute or
// begins with "~". An empty user is the agent's own; an empty base is the user's
// home directory.
func (c *Client) FilesAs(user, base string) *Files {
	return &Files{client: c, user: user, base: base}
}

// where returns the user and the base of a call; nil for the defaults.
func (f *Files) where() *guestdv1.FileContext {
	if f.user == "" && f.base == "" {
		return nil
	}
	where := &guestdv1.FileContext{User: f.user}
	where.Base, where.RawBase = toWire(f.base)
	return where
}

// Stat describes a file.
func (f *Files) Stat(ctx context.Context, path string) (*FileInfo, error) {
	return f.stat(ctx, "stat", path, false)
}

// Lstat describes a file; of a symbolic link the link itself.
func (f *Files) Lstat(ctx context.Context, path string) (*FileInfo, error) {
	return f.stat(ctx, "lstat", path, true)
}

func (f *Files) stat(ctx context.Context, op, path string, noFollow bool) (*FileInfo, error) {
	request := &guestdv1.StatRequest{Context: f.where(), NoFollow: noFollow}
	request.Path, request.RawPath = toWire(path)
	response, err := f.client.file.Stat(ctx, request)
	if err != nil {
		return nil, f.client.mapError(op, path, err)
	}
	return infoFromWire(response.GetInfo()), nil
}

// Filesystem describes a mounted filesystem, as statfs(2).
type Filesystem struct {
	TotalBytes      uint64
	FreeBytes       uint64
	AvailableBytes  uint64 // free for users other than root
	TotalInodes     uint64
	FreeInodes      uint64
	BlockBytes      uint64
	LongestName     uint64 // in bytes
	Type            uint64 // magic number, for example 0x01021994 for tmpfs
	ID              uint64
	Flags           uint64 // mount flags, as f_flags
	MountedReadOnly bool
}

// StatFilesystem describes the filesystem that holds a path.
func (f *Files) StatFilesystem(ctx context.Context, path string) (Filesystem, error) {
	request := &guestdv1.StatFilesystemRequest{Context: f.where()}
	request.Path, request.RawPath = toWire(path)
	r, err := f.client.file.StatFilesystem(ctx, request)
	if err != nil {
		return Filesystem{}, f.client.mapError("statfs", path, err)
	}
	return Filesystem{
		TotalBytes:      r.GetTotalBytes(),
		FreeBytes:       r.GetFreeBytes(),
		AvailableBytes:  r.GetAvailableBytes(),
		TotalInodes:     r.GetTotalInodes(),
		FreeInodes:      r.GetFreeInodes(),
		BlockBytes:      r.GetBlockBytes(),
		LongestName:     r.GetNameMax(),
		Type:            r.GetType(),
		ID:              r.GetFsid(),
		Flags:           r.GetFlags(),
		MountedReadOnly: r.GetReadOnly(),
	}, nil
}

// Mkdir makes a directory. Its permission bits are perm, whatever the umask.
func (f *Files) Mkdir(ctx context.Context, path string, perm fs.FileMode) error {
	return f.mkdir(ctx, path, perm, false)
}

// MkdirAll makes a directory and its missing parents. It is not an error if the
// directory exists already.
func (f *Files) MkdirAll(ctx context.Context, path string, perm fs.FileMode) error {
	return f.mkdir(ctx, path, perm, true)
}

func (f *Files) mkdir(ctx context.Context, path string, perm fs.FileMode, parents bool) error {
	request := &guestdv1.MkdirRequest{Context: f.where(), Mode: new(modeToWire(perm)), Parents: parents}
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Mkdir(ctx, request)
	return f.client.mapError("mkdir", path, err)
}

// Remove removes a file or an empty directory; of a symbolic link the link.
func (f *Files) Remove(ctx context.Context, path string) error {
	_, err := f.remove(ctx, path, false)
	return err
}

// RemoveAll removes a path and everything below it, and returns how many files
// and directories it removed. It is not an error if there is nothing.
func (f *Files) RemoveAll(ctx context.Context, path string) (int64, error) {
	return f.remove(ctx, path, true)
}

func (f *Files) remove(ctx context.Context, path string, all bool) (int64, error) {
	request := &guestdv1.RemoveRequest{Context: f.where(), Recursive: all, IgnoreMissing: all}
	request.Path, request.RawPath = toWire(path)
	response, err := f.client.file.Remove(ctx, request)
	return int64(response.GetRemoved()), f.client.mapError("remove", path, err)
}

// RenameOptions changes what Rename does if the target exists already.
type RenameOptions struct {
	NoReplace bool // fail with fs.ErrExist instead of replacing it
	Exchange  bool // swap the two
}

// Rename moves a path within a filesystem.
func (f *Files) Rename(ctx context.Context, from, to string, o RenameOptions) error {
	request := &guestdv1.RenameRequest{Context: f.where(), NoReplace: o.NoReplace, Exchange: o.Exchange}
	request.From, request.RawFrom = toWire(from)
	request.To, request.RawTo = toWire(to)
	_, err := f.client.file.Rename(ctx, request)
	return f.client.mapError("rename", from, err)
}

// CopyOptions says how Copy copies.
type CopyOptions struct {
	Recursive bool // copy directories with everything in them
	NoReplace bool // fail with fs.ErrExist instead of replacing files
	NoFollow  bool // copy a symbolic link itself
}

// CopyResult is what Copy copied.
type CopyResult struct {
	Files, Bytes int64
}

// Copy copies a file or a tree inside the guest, with modes, times, holes and
// extended attributes. The path to is the target itself, not the directory to
// put it in.
func (f *Files) Copy(ctx context.Context, from, to string, o CopyOptions) (CopyResult, error) {
	request := &guestdv1.CopyRequest{Context: f.where(), Recursive: o.Recursive, NoReplace: o.NoReplace, NoFollow: o.NoFollow}
	request.From, request.RawFrom = toWire(from)
	request.To, request.RawTo = toWire(to)
	response, err := f.client.file.Copy(ctx, request)
	return CopyResult{Files: int64(response.GetFiles()), Bytes: int64(response.GetBytes())},
		f.client.mapError("copy", from, err)
}

// Chmod sets permission bits, with setuid, setgid and sticky.
func (f *Files) Chmod(ctx context.Context, path string, mode fs.FileMode) error {
	request := &guestdv1.ChmodRequest{Context: f.where(), Mode: modeToWire(mode)}
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Chmod(ctx, request)
	return f.client.mapError("chmod", path, err)
}

// Chown sets owner and group, each a name or a number; an empty one stays as it
// is.
func (f *Files) Chown(ctx context.Context, path, owner, group string) error {
	return f.chown(ctx, path, owner, group, false)
}

// Lchown is Chown of a symbolic link itself.
func (f *Files) Lchown(ctx context.Context, path, owner, group string) error {
	return f.chown(ctx, path, owner, group, true)
}

func (f *Files) chown(ctx context.Context, path, owner, group string, noFollow bool) error {
	request := &guestdv1.ChownRequest{Context: f.where(), Owner: owner, Group: group, NoFollow: noFollow}
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Chown(ctx, request)
	return f.client.mapError("chown", path, err)
}

// Chtimes sets times to the nanosecond; a zero time is left unchanged. If both
// are zero, both are set to the guest's current time.
func (f *Files) Chtimes(ctx context.Context, path string, access, modify time.Time) error {
	return f.chtimes(ctx, path, access, modify, false)
}

// Lchtimes is Chtimes of a symbolic link itself.
func (f *Files) Lchtimes(ctx context.Context, path string, access, modify time.Time) error {
	return f.chtimes(ctx, path, access, modify, true)
}

func (f *Files) chtimes(ctx context.Context, path string, access, modify time.Time, noFollow bool) error {
	request := &guestdv1.UtimeRequest{
		Context:    f.where(),
		AccessTime: timeToWire(access),
		ModifyTime: timeToWire(modify),
		NoFollow:   noFollow,
	}
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Utime(ctx, request)
	return f.client.mapError("chtimes", path, err)
}

// Truncate sets a file's size.
func (f *Files) Truncate(ctx context.Context, path string, size int64) error {
	request := &guestdv1.TruncateRequest{Context: f.where(), Size: uint64(size)}
	request.Path, request.RawPath = toWire(path)
	_, err := f.client.file.Truncate(ctx, request)
	return f.client.mapError("truncate", path, err)
}

// MkdirTemp makes a directory, mode 0700, with a name that is not in use, and
// returns its path. The last "*" of pattern is replaced by random characters. An
// empty dir is "/tmp", an empty pattern "tmp-*".
func (f *Files) MkdirTemp(ctx context.Context, dir, pattern string) (string, error) {
	return f.makeTemp(ctx, dir, pattern, true)
}

// CreateTemp is MkdirTemp for an empty file, mode 0600.
func (f *Files) CreateTemp(ctx context.Context, dir, pattern string) (string, error) {
	return f.makeTemp(ctx, dir, pattern, false)
}

func (f *Files) makeTemp(ctx context.Context, dir, pattern string, directory bool) (string, error) {
	request := &guestdv1.MakeTempRequest{Context: f.where(), Pattern: pattern, Directory: directory}
	request.Dir, request.RawDir = toWire(dir)
	response, err := f.client.file.MakeTemp(ctx, request)
	if err != nil {
		return "", f.client.mapError("make temporary", dir, err)
	}
	return fromWire(response.GetPath(), response.GetRawPath()), nil
}
