//go:build linux

package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// maxOpenFiles bounds the files that clients hold open at once, all
// connections together. Where the agent may have fewer descriptors it is half
// of those, so that the rest of the agent is never short of them.
const maxOpenFiles = 4096

// fileHandles are the files that clients have open. A handle is the boot id
// and a random name: one of another boot is recognised as stale, and none can
// be guessed.
type fileHandles struct {
	prefix string // boot id and "/"
	limit  int

	mu    sync.Mutex
	taken int // places in use: open files, and files being opened
	open  map[*connection]map[string]*openFile
}

// openFile is one open file. It is never changed after it was made.
type openFile struct {
	*fsops.Handle
	abs     string // for people and FileInfo.path
	special bool   // a FIFO or a device: reads may wait
	append  bool
}

func newFileHandles(bootID string, limit int) *fileHandles {
	var descriptors unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors); err == nil {
		limit = int(min(uint64(limit), descriptors.Cur/2))
	}
	return &fileHandles{prefix: bootID + "/", limit: limit, open: make(map[*connection]map[string]*openFile)}
}

// reserve takes a place for a file that is going to be opened. Who has taken
// one calls put or unreserve.
func (h *fileHandles) reserve() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken >= h.limit {
		return &callError{
			reason: guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED,
			text:   "too many open files",
		}
	}
	h.taken++
	return nil
}

// count is the number of places in use.
func (h *fileHandles) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken
}

// unreserve gives a place back.
func (h *fileHandles) unreserve() {
	h.mu.Lock()
	h.taken--
	h.mu.Unlock()
}

// put makes a handle of file for conn, which owns the file from now on. If the
// connection has ended it closes the file and gives the place back.
func (h *fileHandles) put(conn *connection, file *openFile) (string, error) {
	name := rand.Text()
	h.mu.Lock()
	files := h.open[conn]
	if files == nil {
		files = make(map[string]*openFile)
		if conn == nil || !conn.onClose(func() { h.closeAll(conn) }) {
			h.taken--
			h.mu.Unlock()
			_ = file.Close() // nobody is left to be told
			return "", context.Canceled
		}
		h.open[conn] = files
	}
	files[name] = file
	h.mu.Unlock()
	return h.prefix + name, nil
}

// get finds the file of a handle of conn's.
func (h *fileHandles) get(conn *connection, handle string) (*openFile, error) {
	name, err := h.name(handle)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if file := h.open[conn][name]; file != nil {
		return file, nil
	}
	return nil, staleHandle("no such handle on this connection")
}

// take is get, after which the handle is not valid any more and its place is
// free. The caller closes the file.
func (h *fileHandles) take(conn *connection, handle string) (*openFile, error) {
	file, err := h.get(conn, handle)
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(handle, h.prefix)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[conn][name] != file {
		return nil, staleHandle("the handle was closed meanwhile")
	}
	delete(h.open[conn], name)
	h.taken--
	return file, nil
}

// name checks whether the handle is of this boot.
func (h *fileHandles) name(handle string) (string, error) {
	if handle == "" {
		return "", invalidRequest("handle: is empty")
	}
	name, ok := strings.CutPrefix(handle, h.prefix)
	if !ok {
		return "", staleHandle("the handle is of another boot of the machine")
	}
	return name, nil
}

// closeAll closes the files of a connection that has ended.
func (h *fileHandles) closeAll(conn *connection) {
	h.mu.Lock()
	files := h.open[conn]
	delete(h.open, conn)
	h.taken -= len(files)
	h.mu.Unlock()
	for _, file := range files {
		_ = file.Close() // nobody is left to be told
	}
}

func staleHandle(text string) error {
	return &callError{reason: guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE, text: text}
}

// OpenFile implements guestd.v1.FileService.
func (s *fileService) OpenFile(ctx context.Context, req *guestdv1.OpenFileRequest) (*guestdv1.OpenFileResponse, error) {
	view, path, err := s.target(req)
	if err != nil {
		return nil, err
	}
	perm, err := wireMode("permissions", req.Permissions)
	if err != nil {
		return nil, err
	}
	flags, err := openFlags(req)
	if err != nil {
		return nil, err
	}
	abs, err := view.Resolve(path)
	if err != nil {
		return nil, err
	}
	// Before the file is touched: a refused call has neither made nor cut it.
	if err := s.handles.reserve(); err != nil {
		return nil, err
	}
	opened, err := view.Open(ctx, path, fsops.OpenOptions{Flags: flags, Perm: perm, AllowSpecial: req.GetAllowSpecial()})
	if err != nil {
		s.handles.unreserve()
		return nil, openError(err, req.GetNoFollow())
	}
	info, err := opened.Stat(ctx)
	if err != nil {
		s.handles.unreserve()
		_ = opened.Close() // Stat's error is the one to tell
		return nil, err
	}
	file := &openFile{Handle: opened, abs: abs, special: info.IsSpecial(), append: req.GetAppend()}
	handle, err := s.handles.put(connectionOf(ctx), file)
	if err != nil {
		return nil, err
	}
	var c infos
	return &guestdv1.OpenFileResponse{Handle: handle, Info: c.wire(info, abs)}, nil
}

// openError says WRONG_TYPE where O_NOFOLLOW met a symbolic link.
func openError(err error, noFollow bool) error {
	if noFollow && errors.Is(err, unix.ELOOP) {
		return wrongType("a symbolic link", err)
	}
	return err
}

// openFlags translates a request to the flags of open(2).
func openFlags(req *guestdv1.OpenFileRequest) (int, error) {
	var flags int
	switch {
	case req.GetRead() && req.GetWrite():
		flags = unix.O_RDWR
	case req.GetRead():
		flags = unix.O_RDONLY
	case req.GetWrite():
		flags = unix.O_WRONLY
	default:
		return 0, invalidRequest("read: is not set, and neither is write")
	}
	if !req.GetWrite() && (req.GetAppend() || req.GetTruncate()) {
		return 0, invalidRequest("write: is not set, but append or truncate is")
	}
	if req.GetExclusive() && !req.GetCreate() {
		return 0, invalidRequest("create: is not set, but exclusive is")
	}
	for _, option := range []struct {
		set  bool
		flag int
	}{
		{req.GetAppend(), unix.O_APPEND},
		{req.GetCreate(), unix.O_CREAT},
		{req.GetExclusive(), unix.O_EXCL},
		{req.GetTruncate(), unix.O_TRUNC},
		{req.GetNoFollow(), unix.O_NOFOLLOW},
	} {
		if option.set {
			flags |= option.flag
		}
	}
	return flags, nil
}

// file finds the open file that a request on ctx's connection names.
func (s *fileService) file(ctx context.Context, handle string) (*openFile, error) {
	return s.handles.get(connectionOf(ctx), handle)
}

// StatFile implements guestd.v1.FileService.
func (s *fileService) StatFile(ctx context.Context, req *guestdv1.StatFileRequest) (*guestdv1.StatFileResponse, error) {
	file, err := s.file(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	info, err := file.Stat(ctx)
	if err != nil {
		return nil, err
	}
	var c infos
	return &guestdv1.StatFileResponse{Info: c.wire(info, file.abs)}, nil
}

// CloseFile implements guestd.v1.FileService.
func (s *fileService) CloseFile(ctx context.Context, req *guestdv1.CloseFileRequest) (*guestdv1.CloseFileResponse, error) {
	file, err := s.handles.take(connectionOf(ctx), req.GetHandle())
	if err != nil {
		return nil, err
	}
	return &guestdv1.CloseFileResponse{}, file.Close()
}
