package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// FS is a directory of the guest as a file system of package io/fs, for all that
// works with one: fs.WalkDir, template.ParseFS, http.FileServerFS. It has the
// writing operations of [Files] as well, with that directory as their base.
//
// The methods of io/fs take no context, so an FS carries one: otherwise a call
// to a guest that does not answer could not be ended. It is the background
// context unless [FS.WithContext] gives another. They take only names that
// fs.ValidPath allows; for others, and for everything else, FS.Files has methods
// of the same names that take a context.
//
// As with os.DirFS, a symbolic link may lead out of the directory. Errors are
// [*fs.PathError].
type FS struct {
	*Files
	ctx context.Context //nolint:containedctx // the methods of io/fs have none
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.SubFS      = (*FS)(nil)
	_ fs.GlobFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// FS returns the guest's whole file system, with the rights of the agent's own
// user.
func (c *Client) FS() *FS { return c.FSAs("", "/") }

// FSAs returns the directory base, absolute or beginning with "~", with the
// rights of user; see [Client.FilesAs].
func (c *Client) FSAs(user, base string) *FS {
	return &FS{Files: c.FilesAs(user, base), ctx: context.Background()}
}

// WithContext returns the same FS with another context for the methods of
// io/fs.
func (f *FS) WithContext(ctx context.Context) *FS {
	return &FS{Files: f.Files, ctx: ctx}
}

// Open opens a file or directory for reading. A file is an io.Seeker as well.
func (f *FS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	// Most of what is opened is a file: ask for its content straight away.
	r, err := f.Files.Open(f.ctx, name, ReadOptions{})
	if err == nil {
		r.info.name = path.Base(name)
		return &openFile{Reader: r, fs: f, name: name}, nil
	}
	if errors.Is(err, ErrWrongType) {
		if info, statErr := f.Files.Stat(f.ctx, name); statErr == nil && info.IsDir() {
			info.name = path.Base(name)
			return &openDir{fs: f, name: name, info: info}, nil
		}
	}
	return nil, pathError("open", name, err)
}

// Stat describes a file.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	return f.stat("stat", name, f.Files.Stat)
}

// Lstat describes a file; of a symbolic link the link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	return f.stat("lstat", name, f.Files.Lstat)
}

func (f *FS) stat(op, name string, stat func(context.Context, string) (*FileInfo, error)) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	info, err := stat(f.ctx, name)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	// The base itself is "." here, as io/fs wants it.
	info.name = path.Base(name)
	return info, nil
}

// ReadLink returns what a symbolic link holds.
func (f *FS) ReadLink(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := f.Readlink(f.ctx, name)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return target, nil
}

// ReadDir lists a directory, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	var entries []fs.DirEntry
	for info, err := range f.Files.ReadDir(f.ctx, name, ReadDirOptions{}) {
		if err != nil {
			return entries, pathError("readdir", name, err)
		}
		entries = append(entries, info)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// ReadFile reads a whole file.
func (f *FS) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: fs.ErrInvalid}
	}
	content, err := f.Files.ReadFile(f.ctx, name)
	if err != nil {
		return nil, pathError("readfile", name, err)
	}
	return content, nil
}

// Sub returns a directory of this FS as an FS of its own.
func (f *FS) Sub(dir string) (fs.FS, error) {
	if !fs.ValidPath(dir) {
		return nil, &fs.PathError{Op: "sub", Path: dir, Err: fs.ErrInvalid}
	}
	files := *f.Files
	if files.base == "" {
		files.base = "~"
	}
	files.base = strings.TrimSuffix(files.base, "/") + "/" + dir
	return &FS{Files: &files, ctx: f.ctx}, nil
}

// Glob lists the names that match a pattern of path.Match.
func (f *FS) Glob(pattern string) ([]string, error) {
	// The agent's patterns mean more ("**", "{a,b}") than io/fs allows here, so
	// the matching is done on this side, with directories read on the other.
	return fs.Glob(globFS{f}, pattern)
}

// globFS hides Glob, so that fs.Glob does the work.
type globFS struct{ fsys *FS }

func (g globFS) Open(name string) (fs.File, error)          { return g.fsys.Open(name) }
func (g globFS) Stat(name string) (fs.FileInfo, error)      { return g.fsys.Stat(name) }
func (g globFS) ReadDir(name string) ([]fs.DirEntry, error) { return g.fsys.ReadDir(name) }

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: cause{err}}
}

// cause is an error without its operation and path, which the fs.PathError
// around it has.
type cause struct{ err error }

func (c cause) Error() string {
	if e, ok := errors.AsType[*Error](c.err); ok && e.Errno != 0 {
		return e.Errno.Error()
	}
	return c.err.Error()
}

func (c cause) Unwrap() error { return c.err }

// openDir is a directory as an fs.File.
type openDir struct {
	fs      *FS
	name    string
	info    *FileInfo
	entries []fs.DirEntry
	listed  bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: ErrWrongType}
}

func (d *openDir) Close() error { return nil }

// ReadDir implements [fs.ReadDirFile].
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.listed {
		entries, err := d.fs.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.listed = entries, true
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	entries := d.entries[:n:n]
	d.entries = d.entries[n:]
	return entries, nil
}
