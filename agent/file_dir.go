//go:build linux

package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// Bounds of listings.
const (
	defaultPageSize = 1000
	maxPageSize     = 10_000
	// pageBytes ends a page early, so that it stays below what stock clients
	// receive in one message (4 MiB) however long names and links are.
	pageBytes = 1 << 20
	// pageStep is how many entries are read between two looks at the size.
	// With the longest possible links they take 1 MiB.
	pageStep = 128
	// listBytes is the size at which a streamed listing sends a message.
	listBytes = 128 << 10
)

// ReadDir implements guestd.v1.FileService. Every page opens the directory
// anew: a client that stops in the middle leaves nothing behind.
func (s *fileService) ReadDir(ctx context.Context, req *guestdv1.ReadDirRequest) (*guestdv1.ReadDirResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	dir, err := view.OpenDir(ctx, path)
	if err != nil {
		return nil, err
	}
	defer release(dir)
	self, err := dir.Stat(ctx)
	if err != nil {
		return nil, err
	}
	position := pageToken{dev: self.Dev, ino: self.Ino}
	if token := req.GetPageToken(); len(token) > 0 {
		if err := position.resume(token); err != nil {
			return nil, err
		}
		if err := dir.SeekCookie(position.cookie); err != nil {
			return nil, err
		}
	}
	size := req.GetPageSize()
	if size == 0 {
		size = defaultPageSize
	}
	return readPage(ctx, dir, position, int(min(size, maxPageSize)), !req.GetNamesOnly())
}

// readPage reads up to limit entries of dir.
func readPage(ctx context.Context, dir *fsops.Dir, position pageToken, limit int, stat bool) (*guestdv1.ReadDirResponse, error) {
	var batch entryBatch
	var step fsops.DirBatch
	response := new(guestdv1.ReadDirResponse)
	for left := limit; ; {
		if left == 0 || batch.size() >= pageBytes {
			response.NextPageToken = position.marshal()
			break
		}
		entries, err := dir.NextBatch(ctx, &step, min(left, pageStep), stat)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for i := range entries {
			if err := batch.add(&entries[i], ""); err != nil {
				return nil, err
			}
		}
		left -= len(entries)
		position.cookie = entries[len(entries)-1].Cookie
	}
	batch.into(response)
	return response, nil
}

// pageToken is a position in one directory. Tokens are checked against the
// directory because a position of another one would list nonsense.
type pageToken struct {
	dev, ino uint64
	cookie   int64
}

const pageTokenSize = 3 * 8

func (t pageToken) marshal() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, pageTokenSize), t.dev)
	b = binary.BigEndian.AppendUint64(b, t.ino)
	return binary.BigEndian.AppendUint64(b, uint64(t.cookie))
}

// resume takes over the position in token, if it is of t's directory.
func (t *pageToken) resume(token []byte) error {
	if len(token) != pageTokenSize {
		return invalidRequest("page_token: is not one of ReadDir's")
	}
	if binary.BigEndian.Uint64(token) != t.dev || binary.BigEndian.Uint64(token[8:]) != t.ino {
		return invalidRequest("page_token: is of another directory")
	}
	cookie := int64(binary.BigEndian.Uint64(token[16:]))
	if cookie < 0 {
		return invalidRequest("page_token: is not one of ReadDir's")
	}
	t.cookie = cookie
	return nil
}

// Walk implements guestd.v1.FileService.
func (s *fileService) Walk(req *guestdv1.WalkRequest, stream grpc.ServerStreamingServer[guestdv1.WalkResponse]) error {
	view, path, err := s.target(req)
	if err != nil {
		return err
	}
	var batch entryBatch
	var failed []*guestdv1.WalkError
	send := func() error {
		resp := &guestdv1.WalkResponse{Errors: failed}
		batch.into(resp)
		err := stream.Send(resp)
		batch.reset()
		failed = nil
		return err
	}
	err = view.Walk(stream.Context(), path, fsops.WalkOptions{
		MaxDepth:      int(req.GetMaxDepth()),
		Exclude:       req.GetExclude(),
		Stat:          !req.GetNamesOnly(),
		OneFileSystem: req.GetOneFilesystem(),
	}, func(entries []fsops.WalkEntry) error {
		for i := range entries {
			entry := &entries[i]
			switch {
			case entry.Err != nil:
				failed = append(failed, walkError(entry.Path, entry.Err))
			case entry.Depth > 0:
				if err := batch.add(&entry.Entry, entry.Path); err != nil {
					return err
				}
				if entry.Entry.Err != nil {
					failed = append(failed, walkError(entry.Path, entry.Entry.Err))
				}
			case entry.Entry.Type != unix.S_IFDIR:
				return &fs.PathError{Op: "walk", Path: path, Err: unix.ENOTDIR}
			}
			if batch.size()+walkErrorBytes*len(failed) >= listBytes {
				if err := send(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && batch.size()+len(failed) > 0 {
		err = send()
	}
	return err
}

// walkErrorBytes is about what a WalkError takes on the wire.
const walkErrorBytes = 256

// walkError reports what Walk could not read.
func walkError(path string, err error) *guestdv1.WalkError {
	out := &guestdv1.WalkError{Errno: systemMeta(err)["errno"], Message: printable(err.Error())}
	out.Path, out.RawPath = wirePath(path)
	return out
}

// Glob implements guestd.v1.FileService.
func (s *fileService) Glob(req *guestdv1.GlobRequest, stream grpc.ServerStreamingServer[guestdv1.GlobResponse]) error {
	pattern := req.GetPattern()
	if pattern == "" || strings.IndexByte(pattern, 0) >= 0 {
		return invalidRequest("pattern: is empty or contains a NUL byte")
	}
	view, err := s.view(req.GetContext())
	if err != nil {
		return err
	}
	ctx := stream.Context()
	var batch entryBatch
	send := func() error {
		resp := new(guestdv1.GlobResponse)
		batch.into(resp)
		err := stream.Send(resp)
		batch.reset()
		return err
	}
	err = view.Glob(ctx, pattern, func(path string) error {
		switch {
		case path == ".":
			path = view.Base()
		case path[0] != '/':
			// Not Resolve: the tilde in a name that a pattern found is
			// nobody's home.
			path = strings.TrimSuffix(view.Base(), "/") + "/" + path
		}
		entry := fsops.DirEntry{Name: path[strings.LastIndexByte(path, '/')+1:]}
		if entry.Info, entry.Err = view.Lstat(ctx, path); errors.Is(entry.Err, fs.ErrNotExist) {
			return nil // gone since it was found
		}
		if err := batch.add(&entry, path); err != nil {
			return err
		}
		if batch.size() < listBytes {
			return nil
		}
		return send()
	})
	if err == nil && batch.size() > 0 {
		err = send()
	}
	return err
}
