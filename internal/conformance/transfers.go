package conformance

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
)

func (s *suite) oneFile(t *testing.T) {
	ctx, dir, guest := s.context(t), t.TempDir(), s.path(t, "a/b/file")
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	content := noise(s.scale(3_000_001, 500_001))
	when := time.Unix(1_222_222_222, 987_654_321)
	must(t, os.WriteFile(from, content, 0o751))
	must(t, os.Chmod(from, 0o751))
	must(t, os.Chtimes(from, when, when))
	var last client.Progress
	up, err := s.client.Upload(ctx, from, guest, client.UploadOptions{Progress: func(p client.Progress) { last = p }})
	if err != nil || up.Files != 1 || up.Bytes != int64(len(content)) || last.Bytes != up.Bytes || last.Total != up.Bytes {
		t.Errorf("%+v, %v; progress %+v", up, err, last)
	}
	info, err := s.client.Files().Stat(ctx, guest)
	if err != nil || info.Mode() != 0o751 || !info.ModTime().Equal(when) {
		t.Errorf("there it is %v of %v, %v", info, info.ModTime(), err)
	}
	must(t, os.WriteFile(to, []byte("old"), 0o600))
	_, err = s.client.Download(ctx, guest, to, client.DownloadOptions{Checksum: client.SHA256})
	must(t, err)
	got, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if info, err := os.Stat(to); err != nil || info.Mode() != 0o751 || !info.ModTime().Equal(when) {
		t.Errorf("here it is %v of %v, %v", info.Mode(), info.ModTime(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left here: %v, %v", entries, err)
	}
	s.onlyFile(t, guest)
	_, err = s.client.Upload(ctx, filepath.Join(dir, "none"), guest, client.UploadOptions{})
	wantError(t, "nothing", err, fs.ErrNotExist)
}

// brittle is a line of which the first connections break after so many bytes.
type brittle struct {
	dial  func(context.Context) (net.Conn, error)
	lives atomic.Int64 // connections that will break
	bytes int64
	cuts  atomic.Int64
}

func (b *brittle) connect(ctx context.Context) (net.Conn, error) {
	conn, err := b.dial(ctx)
	if err != nil || b.lives.Add(-1) < 0 {
		return conn, err
	}
	c := &brittleConn{Conn: conn, line: b}
	c.left.Store(b.bytes)
	return c, nil
}

type brittleConn struct {
	net.Conn
	line *brittle
	left atomic.Int64
}

func (c *brittleConn) Read(p []byte) (int, error) { return c.use(c.Conn.Read(p)) }

func (c *brittleConn) Write(p []byte) (int, error) { return c.use(c.Conn.Write(p)) }

func (c *brittleConn) use(n int, err error) (int, error) {
	before := c.left.Load()
	for !c.left.CompareAndSwap(before, before-int64(n)) {
		before = c.left.Load()
	}
	if before > 0 && before <= int64(n) {
		c.line.cuts.Add(1)
		_ = c.Close()
	}
	return n, err
}

// transferCut: a file gets over connections that break.
func (s *suite) transferCut(t *testing.T) {
	ctx, dir, guest := s.context(t), t.TempDir(), s.path(t, "file")
	content := noise(s.scale(8_000_000, 2_000_000))
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	must(t, os.WriteFile(from, content, 0o644))
	line := &brittle{dial: s.target.Dial, bytes: int64(len(content)) / 3}
	line.lives.Store(2)
	c := s.connect(t, line.connect)
	defer c.Close()
	_, err := c.Upload(ctx, from, guest, client.UploadOptions{Resume: true})
	must(t, err)
	if s.get(t, guest) != string(content) || line.cuts.Load() != 2 {
		t.Errorf("after %d cuts the content is another one", line.cuts.Load())
	}
	s.onlyFile(t, guest)
	line = &brittle{dial: s.target.Dial, bytes: int64(len(content)) / 3}
	line.lives.Store(2)
	other := s.connect(t, line.connect)
	defer other.Close()
	_, err = other.Download(ctx, guest, to, client.DownloadOptions{})
	must(t, err)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) || line.cuts.Load() != 2 {
		t.Errorf("after %d cuts %d bytes are here, %v", line.cuts.Load(), len(got), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left here: %v, %v", entries, err)
	}
}
