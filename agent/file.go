//go:build linux

package agent

import (
	"io"
	"strings"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/wire"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// fileService is guestd.v1.FileService on package fsops. It keeps nothing
// between calls but the open files of its connections.
type fileService struct {
	guestdv1.UnsafeFileServiceServer

	sys     *fsops.System
	handles *fileHandles
	pool    *wire.Pool // of the pieces of files that are being sent

	// large holds a token for each Read that sends in the largest pieces. Those
	// are faster, but each such Read holds megabytes, so only a few may.
	large chan struct{}
}

// maxLargeReads is the capacity of fileService.large.
const maxLargeReads = 4

var _ guestdv1.FileServiceServer = (*fileService)(nil)

// newFileService returns the service for the files that sys sees. The handles
// that it gives out begin with bootID; what it sends comes from pool.
func newFileService(sys *fsops.System, bootID string, pool *wire.Pool) *fileService {
	return &fileService{
		sys: sys, handles: newFileHandles(bootID, maxOpenFiles), pool: pool,
		large: make(chan struct{}, maxLargeReads),
	}
}

// view returns the file system with the rights of c's user, where relative paths
// begin at c's base.
func (s *fileService) view(c *guestdv1.FileContext) (*fsops.FS, error) {
	base, err := optionalPath("context.base", c.GetBase(), c.GetRawBase())
	if err != nil {
		return nil, err
	}
	if base != "" && base[0] != '/' && base[0] != '~' {
		return nil, invalidRequest("context.base: %q is neither absolute nor below a home directory", base)
	}
	return s.sys.AsUser(c.GetUser(), base)
}

// pathRequest is a request about one path, as most of them are.
type pathRequest interface {
	GetContext() *guestdv1.FileContext
	GetPath() string
	GetRawPath() []byte
}

// target returns the path of a request about one path, and the view to use it in.
func (s *fileService) target(req pathRequest) (*fsops.FS, string, error) {
	path, err := requiredPath("path", req.GetPath(), req.GetRawPath())
	if err != nil {
		return nil, "", err
	}
	view, err := s.view(req.GetContext())
	return view, path, err
}

// fromToRequest is a request about two paths.
type fromToRequest interface {
	GetContext() *guestdv1.FileContext
	GetFrom() string
	GetRawFrom() []byte
	GetTo() string
	GetRawTo() []byte
}

// fromTo returns what a request about two paths is about.
func (s *fileService) fromTo(req fromToRequest) (view *fsops.FS, from, to string, err error) {
	if from, err = requiredPath("from", req.GetFrom(), req.GetRawFrom()); err != nil {
		return nil, "", "", err
	}
	if to, err = requiredPath("to", req.GetTo(), req.GetRawTo()); err != nil {
		return nil, "", "", err
	}
	view, err = s.view(req.GetContext())
	return view, from, to, err
}

// release closes what was only read from, which can lose nothing.
func release(c io.Closer) { c.Close() }

// optionalPath joins the two fields that carry one path: raw, if there is
// any, wins over text. Nothing in either is "".
func optionalPath(field, text string, raw []byte) (string, error) {
	path := text
	if len(raw) > 0 {
		path = string(raw)
	}
	if strings.IndexByte(path, 0) >= 0 {
		return "", invalidRequest("%s: contains a NUL byte", field)
	}
	return path, nil
}

// requiredPath is [optionalPath] for a path that must be there.
func requiredPath(field, text string, raw []byte) (string, error) {
	path, err := optionalPath(field, text, raw)
	if err == nil && path == "" {
		err = invalidRequest("%s: is empty", field)
	}
	return path, err
}

// wirePath is the reverse of [optionalPath]: a path that is not UTF-8 goes out
// as it is in raw, and readable in text.
func wirePath(path string) (text string, raw []byte) {
	if text = readableName(path); text != path {
		raw = []byte(path)
	}
	return text, raw
}
