//go:build linux

package sftp

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/fsops"
)

// handleSize is the length of a handle on the wire.
const handleSize = 4

// maxParked bounds the requests of a session that wait for files which may have
// to wait for somebody. One more makes the session wait.
const maxParked = 64

// file is an open file.
type file struct {
	*fsops.Handle
	path     string
	dev, ino uint64
	flags    int
	regular  bool
	seekable bool

	// queue holds the requests for a file whose reads or writes may block; it is
	// nil for other files. The queue's goroutine then owns the fields below.
	queue chan func()

	read, written int64
	lost          loss
}

// Flags of OPEN, draft §6.3.
const (
	openRead   = 0x01
	openWrite  = 0x02
	openAppend = 0x04
	openCreate = 0x08
	openTrunc  = 0x10
	openExcl   = 0x20
)

func openFlags(wire uint32) int {
	flags := unix.O_RDONLY
	switch {
	case wire&openRead != 0 && wire&openWrite != 0:
		flags = unix.O_RDWR
	case wire&openWrite != 0:
		flags = unix.O_WRONLY
	}
	for _, f := range [...]struct {
		wire uint32
		flag int
	}{{openAppend, unix.O_APPEND}, {openCreate, unix.O_CREAT}, {openTrunc, unix.O_TRUNC}, {openExcl, unix.O_EXCL}} {
		if wire&f.wire != 0 {
			flags |= f.flag
		}
	}
	return flags
}

func (s *session) open(id uint32, f *fields) {
	path, flags, a := f.text(), openFlags(f.uint32()), f.attrs()
	if f.bad {
		s.status(id, errBadMessage)
		return
	}
	op := Op{Request: "open", Path: s.path(path), Flags: flags, Mode: a.mode(0o666, s.umask)}
	var handle uint32
	handle, op.Err = s.openFile(op)
	s.audit(op)
	if op.Err != nil {
		s.status(id, op.Err)
		return
	}
	s.handle(id, handle)
}

func (s *session) openFile(op Op) (uint32, error) {
	const changes = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	if s.ReadOnly && op.Flags&changes != 0 {
		return 0, errNotAllowed
	}
	return s.newHandle(func(handle uint32) error {
		file, err := s.newFile(op)
		if err == nil {
			s.files[handle] = file
		}
		return err
	})
}

func (s *session) newFile(op Op) (*file, error) {
	h, err := s.Files.Open(s.ctx, op.Path, fsops.OpenOptions{Flags: op.Flags, Perm: &op.Mode, AllowSpecial: true})
	if err != nil {
		return nil, err
	}
	info, err := h.Stat(s.ctx)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	file := &file{Handle: h, path: op.Path, dev: info.Dev, ino: info.Ino, flags: op.Flags, regular: info.IsRegular()}
	_, err = h.Seek(0, io.SeekCurrent)
	file.seekable = err == nil
	// Files of /proc and the like have no size, and some of them wait for news.
	if !file.regular || info.Size == 0 && op.Flags&unix.O_ACCMODE == unix.O_RDONLY {
		file.queue = make(chan func(), maxParked)
		s.parked.Go(func() {
			for do := range file.queue {
				do()
				<-s.slots
			}
		})
	}
	return file, nil
}

// newHandle opens something that gets the next handle, which it returns.
func (s *session) newHandle(open func(handle uint32) error) (uint32, error) {
	limit := s.maxHandles()
	if len(s.files)+len(s.dirs) >= limit {
		return 0, &statusError{codeFailure, fmt.Sprintf("too many open handles; the limit is %d", limit)}
	}
	// A handle is used again after four thousand million others.
	for s.lastHandle++; s.lastHandle == 0 || s.files[s.lastHandle] != nil || s.dirs[s.lastHandle] != nil; s.lastHandle++ {
	}
	if s.Descriptors != nil && !s.Descriptors.Take(1) {
		return 0, &statusError{codeFailure, "too many descriptors are in use"}
	}
	if err := open(s.lastHandle); err != nil {
		s.freeHandle()
		return 0, err
	}
	return s.lastHandle, nil
}

// freeHandle gives back the descriptor that newHandle took, once what the handle
// stood for is closed.
func (s *session) freeHandle() {
	if s.Descriptors != nil {
		s.Descriptors.Give(1)
	}
}

func (s *session) maxHandles() int {
	if s.MaxHandles > 0 {
		return s.MaxHandles
	}
	return DefaultMaxHandles
}

func (s *session) handle(id, handle uint32) {
	out, start := begin(s.reply, typeHandle, id)
	out = binary.BigEndian.AppendUint32(out, handleSize)
	out = binary.BigEndian.AppendUint32(out, handle)
	s.reply = end(out, start)
}

// onFile calls do, which appends an answer. For a file without a queue that is done
// at once, into the replies. For others do goes into the queue, which sends the
// answer later; keep, if not nil, is called before, to copy what do needs of the
// packet. Queued requests hold size bytes of memory: if there is none, the session
// waits for do's turn.
func (s *session) onFile(file *file, size int, keep func(), do func(out []byte) []byte) {
	switch {
	case file.queue == nil:
		s.reply = do(s.reply)
	case !s.takeMemory(size):
		s.inTurn(file, func() { s.reply = do(s.reply) })
	default:
		if keep != nil {
			keep()
		}
		s.park(file, func() {
			defer s.giveMemory(size)
			s.answer(do(nil))
		})
	}
}

// inTurn calls do after all earlier requests for the file, and waits for it.
func (s *session) inTurn(file *file, do func()) {
	if file.queue == nil {
		do()
		return
	}
	s.flush() // it may be for an answer that the client waits
	done := make(chan struct{})
	s.park(file, func() {
		defer close(done)
		do()
	})
	<-done
}

// park puts do into a file's queue.
func (s *session) park(file *file, do func()) {
	if len(s.slots) == cap(s.slots) {
		s.flush() // it may be for these answers that the client waits
	}
	s.slots <- struct{}{}
	file.queue <- do
}

// answer sends the answer of a queue, unless the session has ended meanwhile.
func (s *session) answer(packet []byte) {
	if s.ctx.Err() == nil {
		s.out.write(packet)
	}
}

func (s *session) close(id uint32, f *fields) {
	handle := f.handle()
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case s.dirs[handle] != nil:
		s.status(id, s.closeDir(handle, false))
	case s.files[handle] != nil:
		if s.files[handle].queue == nil {
			s.closeFile(handle, false, func(err error) { s.status(id, err) })
			return
		}
		s.closeFile(handle, false, func(err error) { s.answer(appendStatus(nil, id, err)) })
	default:
		s.status(id, unix.ENOENT) // OpenSSH's
	}
}

// closeFile closes a file after all requests for it, and then calls closed with the
// outcome.
func (s *session) closeFile(handle uint32, forced bool, closed func(error)) {
	file := s.files[handle]
	delete(s.files, handle)
	do := func() {
		err := cmp.Or(file.Close(), file.lost.err)
		s.freeHandle()
		s.audit(Op{Request: "close", Path: file.path, Read: file.read, Written: file.written, Forced: forced, Err: err})
		closed(err)
	}
	if file.queue == nil {
		do()
		return
	}
	s.park(file, do)
	close(file.queue)
}

func (s *session) read(id uint32, f *fields) {
	file, offset, size := s.files[f.handle()], f.uint64(), f.uint32()
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case file == nil:
		s.status(id, errNoHandle)
	case offset > math.MaxInt64:
		s.status(id, unix.EINVAL)
	case !file.seekable:
		s.status(id, unix.ESPIPE)
	default:
		n := int(min(size, maxTransfer))
		if n > leanSize && !s.inBulk() {
			n = leanSize
		}
		if len(s.reply) > 0 && len(s.reply)+n > flushSize {
			s.flush()
		}
		s.onFile(file, n, nil, func(out []byte) []byte { return file.appendData(s.ctx, out, id, int64(offset), n) })
	}
}

// appendData appends the answer to a READ. The bytes go from the file to where
// they are sent from.
func (file *file) appendData(ctx context.Context, out []byte, id uint32, offset int64, size int) []byte {
	packet, start := begin(out, typeData, id)
	packet = append(packet, 0, 0, 0, 0)
	data := len(packet)
	packet = slices.Grow(packet, size)[:data+size]
	n, err := 0, error(nil)
	if size > 0 {
		n, err = file.ReadAt(ctx, packet[data:], offset)
	}
	if n == 0 && err != nil {
		return appendStatus(packet[:start], id, err)
	}
	file.read += int64(n)
	binary.BigEndian.PutUint32(packet[data-lengthSize:], uint32(n))
	return end(packet[:data+n], start)
}

func (s *session) write(id uint32, f *fields) {
	file, offset, data := s.files[f.handle()], f.uint64(), f.bytes()
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case file == nil:
		s.status(id, errNoHandle)
	case offset > math.MaxInt64 && file.flags&unix.O_APPEND == 0:
		s.status(id, unix.EINVAL)
	case !file.seekable && file.flags&unix.O_APPEND == 0:
		s.status(id, unix.ESPIPE)
	default:
		keep := func() { data = slices.Clone(data) }
		s.onFile(file, len(data), keep, func(out []byte) []byte {
			n, err := file.WriteAt(s.ctx, data, int64(offset))
			file.written += int64(n)
			file.lost.note(file.flags, int64(offset), len(data), n, err)
			return appendStatus(out, id, err)
		})
	}
}

func (s *session) fstat(id uint32, f *fields) {
	file := s.files[f.handle()]
	if f.bad || file == nil {
		s.status(id, handleError(f))
		return
	}
	info, err := file.Stat(s.ctx)
	s.attributes(id, info, err)
}

func (s *session) fsetstat(id uint32, f *fields) {
	file, a := s.files[f.handle()], f.attrs()
	if f.bad || file == nil {
		s.status(id, handleError(f))
		return
	}
	s.onFile(file, 0, nil, func(out []byte) []byte {
		err := a.changes(func(change fsops.Attrs) error { return file.SetAttr(s.ctx, change) })
		s.audit(Op{Request: "fsetstat", Path: file.path, Err: err})
		return appendStatus(out, id, err)
	})
}

func (s *session) fsync(id uint32, f *fields) {
	file := s.files[f.handle()]
	switch {
	case f.bad:
		s.status(id, errBadMessage)
	case file == nil:
		s.status(id, unix.EBADF) // OpenSSH's
	default:
		s.onFile(file, 0, nil, func(out []byte) []byte { return appendStatus(out, id, file.Sync(s.ctx, false)) })
	}
}

// handleError is why there is no file for a request.
func handleError(f *fields) error {
	if f.bad {
		return errBadMessage
	}
	return errNoHandle
}
