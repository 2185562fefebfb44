package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/guestd/guestd/internal/archive"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// downloadDataField is DownloadTreeResponse.data.
const downloadDataField protowire.Number = 1

// Bounds of a Download that sets none.
const (
	DefaultMaxBytes   = 64 << 30
	DefaultMaxEntries = 4_000_000
)

// DownloadOptions says how to download.
type DownloadOptions struct {
	// User is the user to read as, NAME|UID[:GROUP|GID]. Default: the agent's
	// own user.
	User string
	// Base is where a relative guest path begins. Default: the user's home.
	Base string

	// Owners says what happens to the owners of a tree here. With OwnersUser,
	// files also lose setuid and setgid: whoever rules the guest chose them.
	Owners Owners
	// Exclude lists what to leave out of a tree, as WalkOptions.Exclude does.
	Exclude []string
	// OneFilesystem does not enter other filesystems of the guest.
	OneFilesystem bool
	// NoXattrs leaves extended attributes out of a tree.
	NoXattrs bool
	// KeepExisting leaves files that exist already as they are, and counts
	// them as skipped.
	KeepExisting bool

	// MaxBytes and MaxEntries bound how much a guest can put on this machine's
	// disk; holes do not count. Beyond that Download fails with [ErrLimit].
	// 0: [DefaultMaxBytes], [DefaultMaxEntries]; negative: no bound.
	MaxBytes, MaxEntries int64

	// Resume continues an interrupted download of the same file, and, if this
	// one is interrupted, leaves what arrived next to the target, as
	// ".NAME.ID.part". Trees cannot be resumed.
	Resume bool
	// Checksum is how a file is checked on its way. If the transfer is resumed,
	// each part is checked by itself.
	Checksum Checksum

	// Progress is called about ten times a second and once at the end, always
	// from the same goroutine. Nil: progress is not reported.
	Progress func(Progress)
}

// Download copies a file or directory of the guest to this machine, with modes,
// times and holes; of a directory also links and extended attributes. A guest
// path that is a symbolic link is followed. LocalPath is the target itself, not
// the directory to put it in; its parent must exist.
//
// A file, and a directory that does not exist yet, takes its place in one step
// when it is complete; until then an existing file stays as it was. An existing
// directory is merged into, file by file. A file is never put in the place of
// anything else, such as a device: that is [ErrWrongType]. If the connection
// breaks, a file continues where it was.
//
// The guest is not trusted: whatever it sends, nothing outside localPath is
// touched.
func (c *Client) Download(ctx context.Context, guestPath, localPath string, o DownloadOptions) (Transfer, error) {
	if localPath == "" {
		return Transfer{}, &fs.PathError{Op: "download", Path: localPath, Err: fs.ErrInvalid}
	}
	files := c.FilesAs(o.User, o.Base)
	info, err := files.stat(ctx, "download", guestPath, false)
	if err != nil {
		return Transfer{}, err
	}
	o.MaxBytes = bound(o.MaxBytes, DefaultMaxBytes)
	o.MaxEntries = bound(o.MaxEntries, DefaultMaxEntries)
	m := newMeter(o.Progress)
	defer m.close()
	switch {
	case info.IsDir():
		return files.downloadTree(ctx, guestPath, localPath, o, m)
	case info.Mode().IsRegular():
		d := &fileDownload{files: files, from: guestPath, to: localPath, options: o, meter: m, info: info}
		return d.run(ctx)
	default:
		return Transfer{}, &Error{
			Op: "download", Path: guestPath,
			Reason:  guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE,
			Message: joinError("download", guestPath, "neither a file nor a directory"),
		}
	}
}

// bound makes of an option what the archiver takes: 0 for no bound.
func bound(n, standard int64) int64 {
	switch {
	case n == 0:
		return standard
	case n < 0:
		return 0
	default:
		return n
	}
}

func (f *Files) downloadTree(ctx context.Context, guestPath, localPath string, o DownloadOptions, m *meter) (Transfer, error) {
	if _, err := os.Stat(localPath); err == nil {
		return f.unpackTree(ctx, guestPath, localPath, o, m)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Transfer{}, err
	}
	localPath = filepath.Clean(localPath)
	temp, err := os.MkdirTemp(filepath.Dir(localPath), "."+filepath.Base(localPath)+".*")
	if err != nil {
		return Transfer{}, err
	}
	// With the temporary directory's mode, 0700, nobody else gets in before
	// the tree has its own.
	tree := filepath.Join(temp, "tree")
	t, err := f.unpackTree(ctx, guestPath, tree, o, m)
	if err == nil {
		err = moveDir(tree, localPath)
	}
	return t, firstError(err, removeTree(temp))
}

// unpackTree unpacks into a directory, which it makes if it is missing.
func (f *Files) unpackTree(ctx context.Context, guestPath, localPath string, o DownloadOptions, m *meter) (Transfer, error) {
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &guestdv1.DownloadTreeRequest{
		Context:       f.where(),
		ContentsOnly:  true,
		Exclude:       o.Exclude,
		OneFilesystem: o.OneFilesystem,
		NoXattrs:      o.NoXattrs,
	}
	request.Path, request.RawPath = toWire(guestPath)
	call, err := f.client.file.DownloadTree(callCtx, request)
	if err != nil {
		return Transfer{}, f.client.mapError("download", guestPath, err)
	}
	r := &treeReader{call: call}
	r.in = wire.Incoming{DataField: downloadDataField, Message: &r.message}
	defer r.in.Free()
	unpacked, err := archive.Unpack(callCtx, r, localPath, unpackOptions(o, m))
	t := transferFromArchive(unpacked)
	switch {
	case r.err != nil && !errors.Is(r.err, io.EOF):
		return t, f.client.mapError("download", guestPath, r.err)
	case err != nil:
		return t, fmt.Errorf("download: %w", archiveError(err))
	case r.summary == nil:
		return t, protocolError("no summary at the end of a tree")
	}
	m.update(func(p *Progress) { p.Bytes = unpacked.Bytes })
	t.addSkips(transferFromWire(r.summary))
	return t, nil
}

func unpackOptions(o DownloadOptions, m *meter) archive.UnpackOptions {
	unpack := archive.UnpackOptions{
		PreserveOwner: o.Owners != OwnersUser,
		Xattrs:        !o.NoXattrs,
		Specials:      o.Owners != OwnersUser,
		Limits:        archive.Limits{MaxEntries: o.MaxEntries, MaxBytes: o.MaxBytes},
	}
	if o.KeepExisting {
		unpack.Overwrite = archive.OverwriteKeep
	}
	if o.Owners == OwnersNames {
		unpack.LookupUser, unpack.LookupGroup = lookupUser, lookupGroup
	}
	if m != nil {
		unpack.Progress = m.archive
	}
	return unpack
}

// treeReader is the tar stream of a DownloadTree call.
type treeReader struct {
	call    guestdv1.FileService_DownloadTreeClient
	in      wire.Incoming
	message guestdv1.DownloadTreeResponse
	scratch []byte
	rest    []byte // of scratch, not yet read
	summary *guestdv1.TreeSummary
	err     error // of the call; io.EOF at its end
}

func (r *treeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err == nil {
			r.err = r.call.RecvMsg(&r.in)
		}
		if r.err != nil {
			return 0, r.err
		}
		if r.in.Bulk() != 0 {
			r.scratch = contiguous(&r.in, r.scratch)
			r.rest = r.scratch
			continue
		}
		switch part := r.message.GetPart().(type) {
		case *guestdv1.DownloadTreeResponse_Data:
			r.rest = part.Data
		case *guestdv1.DownloadTreeResponse_Summary:
			r.summary = part.Summary
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// moveDir renames a directory, also one that its mode does not let be moved to
// another parent.
func moveDir(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode()&0o200 != 0 {
		return os.Rename(from, to)
	}
	if err := os.Chmod(from, info.Mode()|0o200); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := os.Chmod(to, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// removeTree removes a tree that has directories which their mode protects.
func removeTree(root string) error {
	if os.RemoveAll(root) == nil {
		return nil
	}
	// Errors come up again in the second RemoveAll.
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(root)
}

func lookupUser(name string) (uint32, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	return parseID(u.Uid)
}

func lookupGroup(name string) (uint32, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	return parseID(g.Gid)
}

func parseID(s string) (uint32, bool) {
	id, err := strconv.ParseUint(s, 10, 32)
	return uint32(id), err == nil
}
