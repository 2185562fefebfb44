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
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// treeDataField is UploadTreeRequest.data.
const treeDataField protowire.Number = 2

// UploadOptions says how to upload.
type UploadOptions struct {
	// User is the user to write as, NAME|UID[:GROUP|GID]. Default: the agent's
	// own user.
	User string
	// Base is where a relative guest path begins. Default: the user's home.
	Base string

	// Owners says what happens to the owners.
	Owners Owners
	// Exclude lists what to leave out of a tree, in the manner of gitignore.
	Exclude []string
	// NoXattrs leaves extended attributes out of a tree.
	NoXattrs bool
	// KeepExisting leaves files that exist already as they are, and counts
	// them as skipped.
	KeepExisting bool
	// SkipUnreadable leaves out what cannot be read here, instead of failing.
	SkipUnreadable bool

	// Resume continues an interrupted upload of the same file, and, if this one
	// is interrupted, leaves what it sent in the guest for up to 24 hours. Trees
	// cannot be resumed.
	Resume bool
	// Sync waits until a file is on the guest's device.
	Sync bool
	// Checksum is how the guest checks a file.
	Checksum Checksum

	// Progress is called about ten times a second and once at the end, always
	// from the same goroutine. Nil: progress is not reported.
	Progress func(Progress)
}

// Upload copies a local file or directory into the guest, with modes, times and
// holes, and of a directory also links and extended attributes. A path that is a
// symbolic link is followed. The guestPath is the target itself, not the
// directory to put it in. Missing parents are made.
//
// A file takes the target's place in one step, when it is complete and checked.
// What is appended to it meanwhile is left out, and reported as a skip. Holes
// stay holes with agents of API revision 3 and later; with older ones they become
// zeros. If the connection breaks, Upload goes on by itself: with Resume it sends
// what is missing, else all of the file again.
//
// A directory is merged into an existing one, file by file; what was unpacked
// before an error stays.
func (c *Client) Upload(ctx context.Context, localPath, guestPath string, o UploadOptions) (Transfer, error) {
	info, err := os.Stat(localPath)
	if err != nil {
		return Transfer{}, err
	}
	m := newMeter(o.Progress)
	defer m.close()
	files := c.FilesAs(o.User, o.Base)
	switch {
	case info.IsDir():
		return files.uploadTree(ctx, localPath, guestPath, o, m)
	case info.Mode().IsRegular():
		return files.uploadFile(ctx, localPath, guestPath, o, m)
	default:
		return Transfer{}, &fs.PathError{Op: "upload", Path: localPath, Err: ErrWrongType}
	}
}

func (f *Files) uploadFile(ctx context.Context, localPath, guestPath string, o UploadOptions, m *meter) (Transfer, error) {
	file, err := os.Open(localPath)
	if err != nil {
		return Transfer{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Transfer{}, err
	}
	m.update(func(p *Progress) { *p = Progress{Path: filepath.Base(localPath), Files: 1, Total: info.Size()} })
	w := &fileWrite{
		files: f,
		path:  guestPath,
		perm:  new(modeToWire(info.Mode().Perm())),
		options: WriteOptions{
			Owner:    ownerOf(info, o.Owners),
			ModTime:  info.ModTime(),
			Parents:  true,
			Sync:     o.Sync,
			Size:     info.Size(),
			Checksum: o.Checksum,
		},
		sent: func(n int64) { m.update(func(p *Progress) { p.Bytes += n }) },
	}
	if w.options.Owner != "" {
		w.perm = new(modeToWire(info.Mode()))
	}
	if o.Resume {
		absolute, err := filepath.Abs(localPath)
		if err != nil {
			return Transfer{}, err
		}
		w.options.ResumeID = resumeID("upload", absolute, info.Size(), info.ModTime().UnixNano(), guestPath)
	}
	if o.KeepExisting {
		w.options.Mode = Exclusive
	}
	sparse := openSparse(file, info)
	err = w.repeat(ctx, uploadSource(file, info, sparse), m)
	if o.KeepExisting && errors.Is(err, fs.ErrExist) {
		return keptTransfer(guestPath), nil
	}
	if err != nil {
		return Transfer{}, err
	}
	t := Transfer{Files: 1, Bytes: info.Size()}
	if sparse != nil {
		t.Bytes = contentOf(file, info.Size())
	}
	if now, err := file.Stat(); err == nil && now.Size() > info.Size() {
		t.Skipped, t.Skips = 1, []Skip{{Path: guestPath, Reason: string(archive.ReasonGrew)}}
	}
	return t, nil
}

// uploadSource returns what to read of a file, sparse if that is not nil. What is
// appended to the file meanwhile is left out, as it is of a tree's files.
func uploadSource(file *os.File, info fs.FileInfo, sparse *sparseFile) io.ReadSeeker {
	switch {
	case sparse != nil:
		return sparse
	case info.Size() > 0:
		return io.NewSectionReader(file, 0, info.Size())
	default: // files of /proc claim to be empty, whatever they hold
		return file
	}
}

// repeat makes the write until it is done, over broken connections, and once
// more from the start if what it was to resume does not fit.
func (w *fileWrite) repeat(ctx context.Context, source io.ReadSeeker, m *meter) error {
	_, err := w.run(ctx, source)
	if !w.mayRepeat(err) {
		return err
	}
	arrived := w.resumedAt
	for r := w.files.client.recover(); w.mayRepeat(err) && r.next(ctx); {
		switch {
		case errors.Is(err, ErrUnavailable):
			w.broke = true
		case !errors.Is(err, ErrLocked):
			w.fromStart = true
		}
		if _, err := source.Seek(0, io.SeekStart); err != nil {
			return err
		}
		m.update(func(p *Progress) { p.Bytes = 0 })
		_, err = w.run(ctx, source)
		if w.resumedAt > arrived {
			arrived = w.resumedAt
			r = w.files.client.recover() // there is progress: the time begins anew
		}
	}
	return err
}

// mayRepeat reports whether another attempt makes sense after an error.
func (w *fileWrite) mayRepeat(err error) bool {
	if lost, ok := errors.AsType[*ConnectionError](err); ok {
		return lost.Lost || w.most > 0
	}
	if errors.Is(err, ErrLocked) {
		// The agent may not have noticed yet that the attempt before is over.
		return w.broke
	}
	return !w.fromStart && w.resumedAt > 0 && (errors.Is(err, ErrChecksum) || errors.Is(err, ErrResume))
}

// uploadTree packs a directory and sends what it packs.
func (f *Files) uploadTree(ctx context.Context, localPath, guestPath string, o UploadOptions, m *meter) (Transfer, error) {
	if m != nil && len(o.Exclude) == 0 {
		total := treeSize(ctx, localPath)
		m.update(func(p *Progress) { p.Total = total })
	}
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := &guestdv1.UploadTreeStart{
		Context:      f.where(),
		Owner:        o.Owners.toWire(),
		NoXattrs:     o.NoXattrs,
		KeepExisting: o.KeepExisting,
	}
	start.Path, start.RawPath = toWire(guestPath)
	call, err := f.client.file.UploadTree(callCtx)
	if err == nil {
		err = call.Send(&guestdv1.UploadTreeRequest{Part: &guestdv1.UploadTreeRequest_Start{Start: start}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Transfer{}, f.client.mapError("upload", guestPath, err)
	}
	sender := &treeSender{bulkSender{call: call, field: treeDataField, pool: &f.client.pool}}
	packed, packErr := archive.Pack(callCtx, sender, withSlash(localPath), packOptions(o, m))
	if packErr != nil && !errors.Is(packErr, errCallEnded) {
		if ctx.Err() == nil {
			packErr = archiveError(packErr)
		}
		return transferFromArchive(packed), fmt.Errorf("upload: %w", packErr)
	}
	response, err := call.CloseAndRecv()
	if err != nil {
		return Transfer{}, f.client.mapError("upload", guestPath, unexpectedEOF(err))
	}
	m.update(func(p *Progress) { p.Bytes = packed.Bytes })
	t := transferFromWire(response.GetSummary())
	t.addNotes(packed)
	return t, nil
}

func packOptions(o UploadOptions, m *meter) archive.PackOptions {
	pack := archive.PackOptions{
		Exclude:        o.Exclude,
		Xattrs:         !o.NoXattrs,
		Specials:       o.Owners != OwnersUser,
		SkipUnreadable: o.SkipUnreadable,
	}
	if o.Owners == OwnersNames {
		pack.UserName, pack.GroupName = userName, groupName
	}
	if m != nil {
		pack.Progress = m.archive
	}
	return pack
}

// archive takes the progress of an archiver.
func (m *meter) archive(a archive.Progress) {
	m.update(func(p *Progress) { p.Path, p.Files, p.Bytes = a.Name, a.Entries, a.Bytes })
}

// errCallEnded is a call that the agent ended while this side was sending.
var errCallEnded = errors.New("call ended by the agent")

// treeSender sends what is written to it, in chunks. It copies, as the archiver
// reuses its memory.
type treeSender struct{ bulkSender }

func (s *treeSender) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		b := s.buffer()
		n := copy(*b, p[done:])
		if err := s.send(b, n); errors.Is(err, io.EOF) {
			return done, errCallEnded
		} else if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// treeSize is the sum of the sizes of a tree's files, as far as they can be seen
// before ctx is done.
func treeSize(ctx context.Context, root string) int64 {
	var total int64
	// Errors come up again when the tree is read.
	_ = filepath.WalkDir(withSlash(root), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				total += info.Size()
			}
		}
		return ctx.Err()
	})
	return total
}

// withSlash makes a path that is not empty name a directory, even where it is a
// symbolic link to one.
func withSlash(path string) string {
	if os.IsPathSeparator(path[len(path)-1]) {
		return path
	}
	return path + string(os.PathSeparator)
}

func userName(id uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return ""
	}
	return u.Username
}

func groupName(id uint32) string {
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return ""
	}
	return g.Name
}
