package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// ReadDirOptions says how ReadDir lists.
type ReadDirOptions struct {
	// NamesOnly fills in nothing but name and type, which is much cheaper.
	NamesOnly bool
}

// ReadDir lists a directory in the directory's own order, page by page, so that
// one of any size takes little memory. The last pair has an error, if there was
// one. An entry that exists throughout is listed exactly once.
//
// While one page is yielded the next is fetched.
func (f *Files) ReadDir(ctx context.Context, path string, o ReadDirOptions) iter.Seq2[*FileInfo, error] {
	return func(yield func(*FileInfo, error) bool) {
		var fetching sync.WaitGroup
		defer fetching.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		request := &guestdv1.ReadDirRequest{Context: f.where(), NamesOnly: o.NamesOnly, PageSize: pageSize}
		request.Path, request.RawPath = toWire(path)
		page, err := f.readPage(ctx, request)
		for err == nil {
			var next dirPage
			var nextErr error
			last := len(page.token) == 0
			if !last {
				request.PageToken = page.token
				fetching.Go(func() { next, nextErr = f.readPage(ctx, request) })
			}
			for info, err := range page.entries() {
				if !yield(info, err) || err != nil {
					return
				}
			}
			if last {
				return
			}
			fetching.Wait()
			page, err = next, nextErr
		}
		yield(nil, f.client.mapError("read directory", path, err))
	}
}

func (f *Files) readPage(ctx context.Context, request *guestdv1.ReadDirRequest) (dirPage, error) {
	var response wire.Raw
	if err := f.client.conn.Invoke(ctx, guestdv1.FileService_ReadDir_FullMethodName, request, &response); err != nil {
		return dirPage{}, err
	}
	return parsePage(response)
}

// pageSize is how many entries to ask for at once: the most that there are. The
// agent ends a page early where it would become a large message.
const pageSize = 10_000

// WalkOptions says what Walk leaves out.
type WalkOptions struct {
	MaxDepth      int      // levels below path; 1 is its own entries. Default: all
	Exclude       []string // patterns as Glob's, on the relative path or, without "/", on the name
	NamesOnly     bool     // nothing but path, name and type, which is much cheaper
	OneFilesystem bool     // do not enter other filesystems
}

// WalkError is a file or directory below a walked one that could not be read.
// The walk continues after it.
type WalkError struct {
	Path    string // relative to the walked directory
	Symbol  string // of the error number, for example "EACCES"
	Message string // the agent's sentence
}

func (e *WalkError) Error() string { return joinError("walk", e.Path, e.Message) }

// Unwrap returns the error number, so that errors.Is(err, fs.ErrPermission)
// holds.
func (e *WalkError) Unwrap() error {
	if errno := errnoOf(e.Symbol); errno != 0 {
		return errno
	}
	return nil
}

// Walk lists a tree, directories before what is in them, in the directories'
// own order and never through a symbolic link. FileInfo.Path is relative to the
// walked directory. A pair with a [*WalkError] is something that could not be
// read, and more pairs follow; any other error is the last.
func (f *Files) Walk(ctx context.Context, path string, o WalkOptions) iter.Seq2[*FileInfo, error] {
	return func(yield func(*FileInfo, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		request := &guestdv1.WalkRequest{
			Context:       f.where(),
			MaxDepth:      uint32(max(o.MaxDepth, 0)),
			Exclude:       o.Exclude,
			NamesOnly:     o.NamesOnly,
			OneFilesystem: o.OneFilesystem,
		}
		request.Path, request.RawPath = toWire(path)
		call, err := f.client.file.Walk(ctx, request)
		for err == nil {
			var response *guestdv1.WalkResponse
			if response, err = call.Recv(); err == nil && !yieldWalk(response, yield) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, f.client.mapError("walk", path, err))
		}
	}
}

// yieldWalk yields what a response holds. It returns false when the walk must
// end.
func yieldWalk(response *guestdv1.WalkResponse, yield func(*FileInfo, error) bool) bool {
	for _, pb := range response.GetEntries() {
		info := infoFromWire(pb)
		if !isBelow(info.Path()) {
			yield(nil, protocolError("walked path %q", info.Path()))
			return false
		}
		if !yield(info, nil) {
			return false
		}
	}
	for _, e := range response.GetErrors() {
		err := &WalkError{
			Path:    fromWire(e.GetPath(), e.GetRawPath()),
			Symbol:  printable(e.GetErrno()),
			Message: printable(e.GetMessage()),
		}
		if !yield(nil, err) {
			return false
		}
	}
	return true
}

// Glob lists the paths that match a pattern: "*" and "?" within a name, "[a-z]"
// and "[^a-z]", "{a,b}", "**" for any number of directories, "\" to quote. No
// match is not an error. The last pair has an error, if there was one.
func (f *Files) Glob(ctx context.Context, pattern string) iter.Seq2[*FileInfo, error] {
	return func(yield func(*FileInfo, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		call, err := f.client.file.Glob(ctx, &guestdv1.GlobRequest{Context: f.where(), Pattern: pattern})
		for err == nil {
			var response *guestdv1.GlobResponse
			if response, err = call.Recv(); err != nil {
				break
			}
			for _, pb := range response.GetEntries() {
				if !yield(infoFromWire(pb), nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, f.client.mapError("glob", pattern, err))
		}
	}
}
