package conformance

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// counted counts what is sent.
type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// breakOff sends the first part of a resumable write, and cuts the connection.
func (s *suite) breakOff(t *testing.T, file string, content []byte, o client.WriteOptions) {
	t.Helper()
	own := &line{dial: s.target.Dial}
	c := s.connect(t, own.connect)
	defer c.Close()
	source := &slowly{parts: make(chan []byte)}
	done := make(chan error, 1)
	go func() {
		_, err := c.Files().WriteFile(s.context(t), file, source, o)
		done <- err
	}()
	for len(content) > 0 {
		n := min(len(content), 16<<10)
		source.parts <- content[:n]
		content = content[n:]
	}
	stub := guestdv1.NewFileServiceClient(s.client.Conn())
	eventually(t, "half of the file is in the guest", func() bool {
		r, err := stub.StatUpload(s.context(t), &guestdv1.StatUploadRequest{Path: file, ResumeId: o.ResumeID})
		return err == nil && r.GetOffset() >= 1<<20
	})
	own.cut()
	close(source.parts)
	wantError(t, "cut", <-done, client.ErrUnavailable)
}

// writeResumed: what had arrived is not sent again.
func (s *suite) writeResumed(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	content := noise(2_500_000)
	o := client.WriteOptions{ResumeID: "upload-1", Size: int64(len(content)), Checksum: client.SHA256}
	s.breakOff(t, file, content[:2_000_000], o)
	if got := s.get(t, file); got != "old" {
		t.Errorf("before it is complete, the file holds %.20q", got)
	}
	var sent atomic.Int64
	c := s.connect(t, func(ctx context.Context) (net.Conn, error) {
		conn, err := s.target.Dial(ctx)
		if err != nil {
			return nil, err
		}
		return &counted{conn, &sent}, nil
	})
	defer c.Close()
	// The agent may not have noticed yet that the first is gone.
	eventually(t, "the partial file is free", func() bool {
		sent.Store(0) // of an attempt that finds it locked, much may be on its way already
		_, err := c.Files().WriteFile(s.context(t), file, bytes.NewReader(content), o)
		if err != nil && !errors.Is(err, client.ErrLocked) && !errors.Is(err, client.ErrResume) && !errors.Is(err, syscall.EBUSY) {
			t.Fatal(err)
		}
		return err == nil
	})
	if s.get(t, file) != string(content) {
		t.Error("the content is another one")
	}
	if n := sent.Load(); n > 1_600_000 {
		t.Errorf("%d bytes were sent, at least 1 MiB of 2.5 MB had arrived before", n)
	}
	s.onlyFile(t, file)
}

// writeResumedOther: the same id with other content is found out.
func (s *suite) writeResumedOther(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	o := client.WriteOptions{ResumeID: "upload-2"}
	s.breakOff(t, file, noise(2_000_000), o)
	eventually(t, "the mismatch is found", func() bool {
		_, err := s.client.Files().WriteFile(s.context(t), file, bytes.NewReader(make([]byte, 2_500_000)), o)
		if err == nil {
			t.Fatal("half of one content and half of another made a file")
		}
		return errors.Is(err, client.ErrChecksum)
	})
	if got := s.get(t, file); got != "old" {
		t.Errorf("the file holds %.20q", got)
	}
	s.onlyFile(t, file)
}
