package client

import (
	"context"
	"io"
	"math"
	"os"

	"github.com/guestd/guestd/internal/sparse"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// revisionHoles is the API revision from which on an agent takes holes. An older
// agent refuses them.
const revisionHoles = 3

// takesHoles asks whether the agent takes holes. It asks anew for each sparse
// file, since there may be another agent after a broken connection. An agent that
// does not answer, for example because only some calls are allowed, gets zeros.
func (c *Client) takesHoles(ctx context.Context) bool {
	info, err := c.system.GetInfo(ctx, &guestdv1.GetInfoRequest{})
	return err == nil && info.GetApiRevision() >= revisionHoles
}

// sparseFile reads a local file up to the size that it had when it was opened.
// Its holes can be skipped; to a plain reader they are zeros.
type sparseFile struct {
	*io.SectionReader
	file *os.File

	dataFrom, dataTo int64 // the data found last
}

// openSparse returns nil for a file without holes, and on a system that does not
// tell.
func openSparse(file *os.File, info os.FileInfo) *sparseFile {
	if blocks, ok := blocksOf(info); !ok || !sparse.Worth(info.Size(), blocks) {
		return nil
	}
	if begin, end := nextData(file, 0, info.Size()); begin == 0 && end == info.Size() {
		return nil
	}
	return &sparseFile{SectionReader: io.NewSectionReader(file, 0, info.Size()), file: file}
}

// skipHole moves the position over the hole there, but by no more than most
// bytes. It returns by how many, and how many bytes of data follow before the
// next hole.
//
// A nil sparseFile stands for a source without holes.
func (s *sparseFile) skipHole(most int64) (hole, data int64, err error) {
	if s == nil {
		return 0, math.MaxInt64, nil
	}
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, 0, err
	}
	if at < s.dataFrom || at >= s.dataTo {
		s.dataFrom, s.dataTo = nextData(s.file, at, s.Size())
		hole = min(s.dataFrom-at, most)
		at, err = s.Seek(hole, io.SeekCurrent)
	}
	if at >= s.dataFrom && at < s.dataTo && s.dataTo < s.Size() {
		return hole, s.dataTo - at, err
	}
	return hole, math.MaxInt64, err
}

// nextData is [sparse.NextData] of an open file.
func nextData(file *os.File, offset, size int64) (begin, end int64) {
	begin, end = offset, size
	if conn, err := file.SyscallConn(); err == nil {
		// If the file is closed, the read that follows reports it.
		_ = conn.Control(func(fd uintptr) { begin, end = sparse.NextData(int(fd), offset, size) })
	}
	return begin, end
}

// contentOf is how many of the first size bytes of a file are outside holes. Like
// nextData it moves the file's position.
func contentOf(file *os.File, size int64) (content int64) {
	for at := int64(0); at < size; {
		begin, end := nextData(file, at, size)
		if begin == end {
			break
		}
		content += end - begin
		at = end
	}
	return content
}
