//go:build linux || darwin

package archive

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/guestd/guestd/internal/sparse"
)

// file packs a regular file. It reports false if there is none.
func (p *packer) file(ctx context.Context, dir int, base, name string) (bool, error) {
	// Should the name have become a FIFO or a terminal, opening must not block
	// or take it as the controlling one.
	fd, err := openAt(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return true, p.unreadable("open", name, err)
	}
	defer release(fd)
	st, err := statFD(fd)
	if err != nil {
		return true, pathError("stat", p.path(name), err)
	}
	if st.typ() != unix.S_IFREG {
		return false, nil
	}
	h := p.header(name, &st)
	if linked, err := p.hardlink(&st, &h); linked || err != nil {
		return true, err
	}
	h.kind, h.size = kindFile, st.size
	if p.opts.Xattrs {
		h.xattrs = p.xattrs(name, fd)
	}
	if sparse.Worth(st.size, st.blocks) {
		if h.sparse = dataExtents(fd, st.size); h.sparse != nil {
			return true, p.sparseFile(ctx, fd, &h)
		}
	}
	if st.size < bufferSize/2 {
		done, err := p.smallFile(fd, &h)
		if done || err != nil {
			return true, err
		}
	}
	return true, p.largeFile(ctx, fd, &h)
}

// smallFile packs a file that goes into the buffer together with its header. It
// reads first and writes the header then, so what a file of /proc has (its size
// says 0), or one that changed a moment ago, is carried whole. It reports false,
// having written nothing, if there is no room after all.
func (p *packer) smallFile(fd int, h *header) (bool, error) {
	var err error
	if p.hdr, err = p.enc.append(p.hdr[:0], h); err != nil {
		return true, err
	}
	// One byte more than there should be tells a file that has grown from one
	// that has not, without another read.
	need := len(p.hdr) + int(h.size) + 1
	if need > bufferSize {
		return false, nil
	}
	if need > bufferSize-p.out.n {
		if err := p.out.flush(); err != nil {
			return true, err
		}
	}
	room, err := p.out.room()
	if err != nil {
		return true, err
	}
	body := room[len(p.hdr):]
	n, err := readFD(fd, body)
	for err == nil && int64(n) != h.size {
		var m int
		if n == len(body) {
			break // has grown out of the buffer
		}
		if m, err = readFD(fd, body[n:]); m == 0 {
			break
		}
		n += m
	}
	if err != nil {
		return true, p.unreadable("read", h.name, err)
	}
	p.sum.Files++
	p.begin(h.name)
	if n == len(body) && int64(n) > h.size {
		n = int(h.size)
		p.sum.note(h.name, ReasonGrew, nil)
	}
	if int64(n) != h.size {
		h.size = int64(n)
		if p.hdr, err = p.enc.append(p.hdr[:0], h); err != nil {
			return true, err
		}
	}
	copy(room, p.hdr)
	p.out.commit(len(p.hdr) + n)
	p.sum.Bytes += int64(n)
	return true, p.out.zeros(padding(int64(n)))
}

// largeFile packs a file through the buffer. Its header goes before its data,
// so the size is settled.
func (p *packer) largeFile(ctx context.Context, fd int, h *header) error {
	p.sum.Files++
	if err := p.emit(h); err != nil {
		return err
	}
	if err := p.copy(ctx, fd, h.size, h.name); err != nil {
		return err
	}
	if st, err := statFD(fd); err == nil && st.size > h.size {
		p.sum.note(h.name, ReasonGrew, nil)
	}
	return p.out.zeros(padding(h.size))
}

// sparseFile packs the extents of a file with holes.
func (p *packer) sparseFile(ctx context.Context, fd int, h *header) error {
	p.sum.Files++
	m := appendSparseMap(nil, h.sparse, h.size)
	h.isSparse, h.realSize, h.size = true, h.size, int64(len(m))
	for _, e := range h.sparse {
		h.size += e.len
	}
	if err := p.emit(h); err != nil {
		return err
	}
	if err := p.out.write(m); err != nil {
		return err
	}
	for _, e := range h.sparse {
		if _, err := unix.Seek(fd, e.off, 0); err != nil {
			return pathError("seek", p.path(h.name), err)
		}
		if err := p.copy(ctx, fd, e.len, h.name); err != nil {
			return err
		}
	}
	return p.out.zeros(padding(h.size))
}

// copy moves size bytes from fd's position into the stream. The archive needs
// exactly that many: what a file that shrank lacks is filled with zeros.
func (p *packer) copy(ctx context.Context, fd int, size int64, name string) error {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		room, err := p.out.room()
		if err != nil {
			return err
		}
		n, err := readFD(fd, room[:min(size, int64(len(room)))])
		if err != nil {
			return pathError("read", p.path(name), err)
		}
		if n == 0 {
			p.sum.note(name, ReasonShrank, nil)
			return p.out.zeros(size)
		}
		p.out.commit(n)
		size -= int64(n)
		p.sum.Bytes += int64(n)
		p.progress(name)
	}
	return nil
}

// dataExtents finds where a file of the given size has data. It returns nil,
// and leaves the position at 0, where that is everywhere or the file system
// cannot say.
func dataExtents(fd int, size int64) []extent {
	extents := make([]extent, 0, 8)
	for at := int64(0); at < size; {
		begin, end := sparse.NextData(fd, at, size)
		if begin == end {
			break // a hole up to the end
		}
		if len(extents) == maxExtents-1 {
			end = size
		}
		extents = append(extents, extent{begin, end - begin})
		at = end
	}
	if len(extents) == 1 && extents[0] == (extent{0, size}) {
		extents = nil
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil // the read that follows will say so
	}
	return extents
}
