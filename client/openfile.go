package client

import (
	"errors"
	"io"
	"io/fs"
)

// openFile is a Reader as an fs.File that can be sought in, as http.FileServerFS
// wants it: where the reader is not where the next byte is to come from, another
// one is opened.
type openFile struct {
	*Reader
	fs   *FS
	name string

	at     int64 // position of the file
	reader int64 // position of Reader
	closed bool
}

var (
	_ io.ReadSeeker = (*openFile)(nil)
	_ io.WriterTo   = (*openFile)(nil)
)

// errReplaced is a file that has another's name now.
var errReplaced = errors.New("the file was replaced while it was open")

// Stat is the file as it was opened.
func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Seek moves the position. The end is that of the file when it was opened.
func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.info.Size()
	default:
		offset = -1
	}
	switch {
	case f.closed:
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrClosed}
	case offset < 0:
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.at = offset
	return offset, nil
}

func (f *openFile) Read(p []byte) (int, error) {
	if err := f.move(); err != nil {
		return 0, err
	}
	n, err := f.Reader.Read(p)
	f.moved(int64(n))
	return n, err
}

func (f *openFile) WriteTo(w io.Writer) (int64, error) {
	if err := f.move(); err != nil {
		return 0, err
	}
	n, err := f.Reader.WriteTo(w)
	f.moved(n)
	return n, err
}

func (f *openFile) moved(n int64) {
	f.at += n
	f.reader += n
}

// move sees to it that the reader is where the file is.
func (f *openFile) move() error {
	if f.at == f.reader || f.closed {
		return nil // a closed reader says so itself
	}
	r, err := f.fs.Files.Open(f.fs.ctx, f.name, ReadOptions{Offset: f.at})
	if err != nil {
		return pathError("read", f.name, err)
	}
	was, is := f.info.sent.Load(), r.info.sent.Load()
	if was.GetInode() != is.GetInode() || was.GetDevice() != is.GetDevice() {
		r.release()
		return &fs.PathError{Op: "read", Path: f.name, Err: errReplaced}
	}
	r.info = f.info
	f.release()
	f.Reader, f.reader = r, f.at
	return nil
}

// Close closes the file.
func (f *openFile) Close() error {
	f.closed = true
	return f.Reader.Close()
}
