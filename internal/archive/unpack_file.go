//go:build linux || darwin

package archive

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// maker remembers whom the files of the directory at hand belong to when they
// are created. While that is the owner wanted, a file can be created with its
// final mode, which saves a fchmod(2) for each; otherwise it starts with 0600,
// or the wrong group could open it before it changes hands.
type maker struct {
	known    bool
	uid, gid uint32
}

// forget is called when the directory changes: set-group-ID ones give their own
// group to what is created in them.
func (m *maker) forget() { m.known = false }

// file restores a regular file.
func (u *unpacker) file(ctx context.Context, dir int, base string, h *header) error {
	want := u.owner(h)
	perm := u.firstMode(h, want)
	fd := closed
	create := func(name string) (err error) {
		fd, err = openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_NOCTTY, perm)
		return err
	}
	// A small file's content is there in whole before the file is: a cut stream
	// leaves none. A large one that may replace another is built aside.
	small := !h.isSparse && u.in.left <= bufferSize
	var body []byte
	var name string
	var err error
	if small {
		if body, err = u.in.whole(); err != nil {
			return err
		}
	}
	if small || u.opts.Overwrite != OverwriteReplace {
		name, err = u.place(dir, base, h, create)
	} else {
		name, err = u.placeLarge(dir, base, h, create)
	}
	if name == "" || err != nil {
		return err
	}
	if err := u.fill(ctx, fd, dir, name, h, want, body); err != nil {
		u.discard(dir, name)
		return err
	}
	u.sum.Files++
	return u.settle(dir, base, name, h)
}

// placeLarge places a file aside, unless its name is a directory's: that should
// not come out after a gigabyte.
func (u *unpacker) placeLarge(dir int, base string, h *header, create func(string) error) (string, error) {
	if keep, err := u.occupied(dir, base, h); keep || err != nil {
		return "", err
	}
	return u.placeTemp(h, create)
}

// fill gives the new file fd its content and metadata and closes it. body is
// the content if it is small, else nil.
func (u *unpacker) fill(ctx context.Context, fd, dir int, name string, h *header, want owner, body []byte) error {
	open := true
	defer func() {
		if open {
			release(fd)
		}
	}()
	// The owner first: from here on nobody can open it whom it is not for, and
	// the space it takes counts as the owner's.
	st, err := statFD(fd)
	if err != nil {
		return u.entryError("stat", err)
	}
	u.maker = maker{known: true, uid: st.uid, gid: st.gid}
	kept, err := u.chown(fd, &st, h, want)
	if err != nil {
		return err
	}
	if body != nil {
		err = u.writeBody(fd, h, body)
	} else if h.isSparse {
		err = u.writeSparse(ctx, fd, h)
	} else {
		err = u.writeData(ctx, fd, h, h.size)
	}
	if err != nil {
		return err
	}
	if err := u.setMeta(fd, &st, h, kept); err != nil {
		return err
	}
	if err := setFileTime(fd, dir, name, h.mtime); err != nil {
		return u.entryError("utimes", err)
	}
	open = false
	if err := closeFD(fd); err != nil {
		return u.entryError("close", err)
	}
	return nil
}

// writeBody writes a small file.
func (u *unpacker) writeBody(fd int, h *header, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	if err := writeFD(fd, body); err != nil {
		return u.entryError("write", err)
	}
	u.sum.Bytes += int64(len(body))
	u.progress(h.name)
	return nil
}

// writeData writes the next n bytes of the entry's data at fd's position.
func (u *unpacker) writeData(ctx context.Context, fd int, h *header, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := u.in.data(n)
		if errors.Is(err, io.EOF) { // the map was checked against the data: a bug, not input
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := writeFD(fd, b); err != nil {
			return u.entryError("write", err)
		}
		n -= int64(len(b))
		u.sum.Bytes += int64(len(b))
		u.progress(h.name)
	}
	return nil
}

// writeSparse writes a file's extents and leaves its holes.
func (u *unpacker) writeSparse(ctx context.Context, fd int, h *header) error {
	for _, e := range h.sparse {
		if _, err := unix.Seek(fd, e.off, 0); err != nil {
			return u.entryError("seek", err)
		}
		if err := u.writeData(ctx, fd, h, e.len); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(fd, h.realSize); err != nil {
		return u.entryError("truncate", err)
	}
	return nil
}
