//go:build linux

package agent

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/archive"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Fields of the bulk data; a test compares them with the descriptors.
const (
	uploadTreeDataField   = 2
	downloadTreeDataField = 1
)

// UploadTree implements guestd.v1.FileService.
func (s *fileService) UploadTree(stream grpc.ClientStreamingServer[guestdv1.UploadTreeRequest, guestdv1.UploadTreeResponse]) error {
	in := &treeReader{stream: stream}
	in.next = wire.Incoming{DataField: uploadTreeDataField, Message: &in.message}
	defer in.next.Free()
	start, err := receiveStart(stream, &in.next, in.message.GetStart)
	if err != nil {
		return err
	}
	view, path, err := s.target(start)
	if err != nil {
		return err
	}
	opts, err := uploadOptions(start)
	if err != nil {
		return err
	}
	done, err := view.Upload(stream.Context(), in, path, opts)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&guestdv1.UploadTreeResponse{Summary: treeSummary(&done)})
}

// uploadOptions translates a request.
func uploadOptions(start *guestdv1.UploadTreeStart) (fsops.UploadOptions, error) {
	opts := fsops.UploadOptions{
		Exclude:         start.GetExclude(),
		StripComponents: int(start.GetStripComponents()),
		Xattrs:          !start.GetNoXattrs(),
		Specials:        true,
	}
	if start.GetKeepExisting() {
		opts.Overwrite = archive.OverwriteKeep
	}
	switch start.GetOwner() {
	case guestdv1.TreeOwner_TREE_OWNER_UNSPECIFIED, guestdv1.TreeOwner_TREE_OWNER_USER:
		opts.Owner = fsops.TreeOwnerUser
	case guestdv1.TreeOwner_TREE_OWNER_NUMERIC:
		opts.Owner = fsops.TreeOwnerNumeric
	case guestdv1.TreeOwner_TREE_OWNER_NAMES:
		opts.Owner = fsops.TreeOwnerNames
	default:
		return opts, invalidRequest("owner: %d is not known", start.GetOwner())
	}
	return opts, nil
}

// DownloadTree implements guestd.v1.FileService.
func (s *fileService) DownloadTree(req *guestdv1.DownloadTreeRequest, stream grpc.ServerStreamingServer[guestdv1.DownloadTreeResponse]) error {
	view, path, err := s.target(req)
	if err != nil {
		return err
	}
	done, err := view.Download(stream.Context(), &treeWriter{stream: stream, pool: s.pool}, path, fsops.DownloadOptions{
		ContentsOnly:   req.GetContentsOnly(),
		Exclude:        req.GetExclude(),
		OneFileSystem:  req.GetOneFilesystem(),
		SkipUnreadable: true,
		Xattrs:         !req.GetNoXattrs(),
		Specials:       true,
	})
	if err != nil {
		return err
	}
	return stream.Send(&guestdv1.DownloadTreeResponse{Part: &guestdv1.DownloadTreeResponse_Summary{Summary: treeSummary(&done)}})
}

// treeSummary translates what was moved.
func treeSummary(done *archive.Summary) *guestdv1.TreeSummary {
	out := &guestdv1.TreeSummary{
		Files:       uint64(done.Files),
		Directories: uint64(done.Dirs),
		Symlinks:    uint64(done.Symlinks),
		HardLinks:   uint64(done.Hardlinks),
		Special:     uint64(done.Specials),
		Bytes:       uint64(done.Bytes),
		Skipped:     uint64(done.NoteCount),
	}
	for _, note := range done.Notes {
		skip := &guestdv1.TreeSkip{Reason: string(note.Reason)}
		if note.Err != nil {
			skip.Reason += ": " + printable(note.Err.Error())
		}
		skip.Path, skip.RawPath = wirePath(note.Name)
		out.Skips = append(out.Skips, skip)
	}
	return out
}

// treeReader reads the tar stream that the client sends, up to its half-close.
type treeReader struct {
	stream  grpc.ServerStream
	next    wire.Incoming
	message guestdv1.UploadTreeRequest
	pieces  [][]byte // what of next has not been read
}

// Read implements io.Reader.
func (r *treeReader) Read(p []byte) (n int, err error) {
	for len(r.pieces) == 0 {
		if err := r.receive(); err != nil {
			return 0, err
		}
	}
	for n < len(p) && len(r.pieces) > 0 {
		m := copy(p[n:], r.pieces[0])
		n += m
		if r.pieces[0] = r.pieces[0][m:]; len(r.pieces[0]) == 0 {
			r.pieces = r.pieces[1:]
		}
	}
	return n, nil
}

// receive waits for the next data.
func (r *treeReader) receive() error {
	if err := r.stream.RecvMsg(&r.next); err != nil {
		return err
	}
	size := r.next.Len()
	if r.next.Bulk() == uploadTreeDataField {
		r.pieces = r.next.AppendTo(r.pieces[:0])
	} else {
		part, ok := r.message.GetPart().(*guestdv1.UploadTreeRequest_Data)
		if !ok {
			return invalidRequest("part: is not data")
		}
		size = len(part.Data)
		if size > 0 {
			r.pieces = append(r.pieces[:0], part.Data)
		}
	}
	if size > wire.MaxData {
		return invalidRequest("data: %d bytes are more than %d", size, wire.MaxData)
	}
	return nil
}

// treeWriter sends what is written to it as data. Package archive writes
// pieces of 256 KiB and uses its buffer again, so each is copied once.
type treeWriter struct {
	stream grpc.ServerStream
	pool   *wire.Pool
}

// Write implements io.Writer.
func (w *treeWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		buf := w.pool.Get(min(len(p)-n, wire.ChunkSize))
		size := copy(*buf, p[n:])
		payload := mem.NewBuffer(buf, w.pool)
		err := w.stream.SendMsg(&wire.Data{Field: downloadTreeDataField, Payload: payload})
		payload.Free()
		if err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}
