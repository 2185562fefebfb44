package conformance

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// handles is about files that stay open.
func (s *suite) handles(t *testing.T) {
	t.Run("read and write", s.handleIO)
	t.Run("open modes", s.handleModes)
	t.Run("sparse", s.handleSparse)
	t.Run("stat and truncate", s.handleStat)
	t.Run("unlinked", s.handleUnlinked)
	t.Run("locks", s.handleLocks)
	t.Run("FIFO", s.handleFIFO)
	t.Run("stale", s.handleStale)
	t.Run("of others", s.handleOfOthers)
	t.Run("freed", s.handleFreed)
	t.Run("as user", s.handleAsUser)
}

// open opens a file until the test ends.
func (s *suite) open(t *testing.T, path string, o client.OpenOptions) *client.File {
	t.Helper()
	f, err := s.client.Files().OpenFile(s.context(t), path, o)
	must(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, client.ErrStaleHandle) {
			t.Error(err)
		}
	})
	return f
}

func (s *suite) handleIO(t *testing.T) {
	file := s.path(t, "file")
	f, err := s.client.Files().Create(s.context(t), file)
	must(t, err)
	content := noise(2_500_000) // several calls
	if n, err := f.Write(content); n != len(content) || err != nil {
		t.Errorf("%d written, %v", n, err)
	}
	for _, c := range []struct {
		offset int64
		whence int
		want   int64
	}{
		{10, io.SeekStart, 10},
		{5, io.SeekCurrent, 15},
		{-15, io.SeekCurrent, 0},
		{-100, io.SeekEnd, int64(len(content)) - 100},
		{100, io.SeekEnd, int64(len(content)) + 100},
		{0, io.SeekStart, 0},
	} {
		if got, err := f.Seek(c.offset, c.whence); got != c.want || err != nil {
			t.Errorf("seek %d from %d: %d, %v; want %d", c.offset, c.whence, got, err, c.want)
		}
	}
	_, err = f.Seek(-1, io.SeekStart)
	wantError(t, "before the beginning", err, syscall.EINVAL)
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	part := make([]byte, 1_500_000)
	if n, err := f.ReadAt(part, 7); n != len(part) || err != nil || !bytes.Equal(part, content[7:7+len(part)]) {
		t.Errorf("read at 7: %d, %v", n, err)
	}
	if n, err := f.ReadAt(part, int64(len(content))-3); n != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("HERE"), 1000); n != 4 || err != nil {
		t.Errorf("write at 1000: %d, %v", n, err)
	}
	copy(content[1000:], "HERE")
	must(t, f.Sync(s.context(t)))
	must(t, f.Close())
	if s.get(t, file) != string(content) {
		t.Error("the file holds something else")
	}
	wantError(t, "second close", f.Close(), client.ErrStaleHandle)
	_, err = f.Read(part)
	wantError(t, "read after close", err, client.ErrStaleHandle)
}

func (s *suite) handleModes(t *testing.T) {
	ctx, file := s.context(t), s.path(t, "file")
	_, err := s.client.Files().OpenFile(ctx, file, client.OpenOptions{Read: true})
	wantError(t, "missing", err, fs.ErrNotExist)
	s.open(t, file, client.OpenOptions{Write: true, Create: true, Exclusive: true, Perm: 0o622}) // whatever the umask
	if info, err := s.client.Files().Stat(ctx, file); err != nil || info.Mode() != 0o622 {
		t.Errorf("%v, %v", info, err)
	}
	_, err = s.client.Files().OpenFile(ctx, file, client.OpenOptions{Write: true, Create: true, Exclusive: true})
	wantError(t, "exclusive", err, fs.ErrExist)
	s.put(t, file, "0123456789")
	appending := s.open(t, file, client.OpenOptions{Write: true, Append: true})
	for _, text := range []string{"a", "b"} {
		if _, err := appending.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		_, err := io.WriteString(appending, text)
		must(t, err)
	}
	if got := s.get(t, file); got != "0123456789ab" {
		t.Errorf("appended: %q", got)
	}
	reading := s.open(t, file, client.OpenOptions{Read: true})
	_, err = reading.Write([]byte("x"))
	wantError(t, "write what is open for reading", err)
	_, err = appending.Read(make([]byte, 1))
	wantError(t, "read what is open for writing", err)
	s.open(t, file, client.OpenOptions{Write: true, Truncate: true})
	if got := s.get(t, file); got != "" {
		t.Errorf("truncated: %q", got)
	}
}

func (s *suite) handleSparse(t *testing.T) {
	file := s.path(t, "file")
	f, err := s.client.Files().Create(s.context(t), file)
	must(t, err)
	defer closing(t, f)
	_, err = f.WriteAt([]byte("data"), 8<<20)
	must(t, err)
	info, err := f.Stat(s.context(t))
	must(t, err)
	if info.Size() != 8<<20+4 {
		t.Errorf("%d bytes", info.Size())
	}
	hole, err := f.Seek(0, client.SeekHole)
	must(t, err)
	if hole != 0 && hole != info.Size() {
		t.Errorf("the first hole is at %d", hole)
	}
	if hole == info.Size() {
		t.Skip("the guest's filesystem does not tell where holes are")
	}
	if data, err := f.Seek(0, client.SeekData); data <= 0 || data > 8<<20 || err != nil {
		t.Errorf("the data is at %d, %v", data, err)
	}
	_, err = f.Seek(info.Size(), client.SeekData)
	wantError(t, "data behind the end", err, syscall.ENXIO)
}

func (s *suite) handleStat(t *testing.T) {
	ctx, file := s.context(t), s.path(t, "file")
	s.put(t, file, "12345")
	f := s.open(t, file, client.OpenOptions{Read: true, Write: true})
	if f.Info().Size() != 5 || f.Name() != file {
		t.Errorf("%v, %s", f.Info(), f.Name())
	}
	must(t, f.Truncate(ctx, 2))
	must(t, s.client.Files().Chmod(ctx, file, 0o601))
	info, err := f.Stat(ctx)
	if err != nil || info.Size() != 2 || info.Mode() != 0o601 {
		t.Errorf("%v, %v", info, err)
	}
	must(t, f.Truncate(ctx, 4))
	if got := s.get(t, file); got != "12\x00\x00" {
		t.Errorf("%q", got)
	}
}

// handleUnlinked: an open file lives on without a name.
func (s *suite) handleUnlinked(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "still here")
	f := s.open(t, file, client.OpenOptions{Read: true})
	must(t, s.client.Files().Remove(s.context(t), file))
	if got, err := io.ReadAll(f); string(got) != "still here" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := f.Stat(s.context(t)); err != nil || info.Links() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}

func (s *suite) handleLocks(t *testing.T) {
	ctx, file := s.context(t), s.path(t, "file")
	s.put(t, file, "0123456789")
	both := client.OpenOptions{Read: true, Write: true}
	a, b := s.open(t, file, both), s.open(t, file, both)
	must(t, a.Lock(ctx, client.LockOptions{}))
	wantError(t, "locked by another", b.Lock(ctx, client.LockOptions{}), client.ErrLocked)
	wantError(t, "shared, too", b.Lock(ctx, client.LockOptions{Shared: true, Wait: 50 * time.Millisecond}), client.ErrLocked)
	must(t, a.Unlock(ctx, client.LockOptions{}))
	must(t, b.Lock(ctx, client.LockOptions{Shared: true}))
	must(t, a.Lock(ctx, client.LockOptions{Shared: true}))
	wantError(t, "exclusive beside shared", a.Lock(ctx, client.LockOptions{}), client.ErrLocked)
	must(t, a.Unlock(ctx, client.LockOptions{}))
	must(t, b.Unlock(ctx, client.LockOptions{}))
	// Ranges know nothing of one another.
	must(t, a.Lock(ctx, client.LockOptions{Offset: 0, Length: 5}))
	must(t, b.Lock(ctx, client.LockOptions{Offset: 5, Length: 5}))
	wantError(t, "overlapping", b.Lock(ctx, client.LockOptions{Offset: 4, Length: 1}), client.ErrLocked)
	// Who waits gets it when the other lets go, by closing too.
	got := make(chan error, 1)
	go func() { got <- b.Lock(ctx, client.LockOptions{Wait: patience}) }()
	select {
	case err := <-got:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, a.Close())
	must(t, <-got)
	wantError(t, "by an unrelated handle", s.open(t, file, both).Lock(ctx, client.LockOptions{}), client.ErrLocked)
}

func (s *suite) handleFIFO(t *testing.T) {
	fifo := s.path(t, "fifo")
	s.sh(t, "mkfifo %s", fifo)
	f := s.open(t, fifo, client.OpenOptions{Read: true, Write: true, AllowSpecial: true})
	_, err := io.WriteString(f, "through")
	must(t, err)
	got := make([]byte, 7)
	if _, err := io.ReadFull(f, got); string(got) != "through" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = f.Seek(0, io.SeekStart)
	wantError(t, "seek", err, syscall.ESPIPE)
}

// handleStale: a handle does not outlive its connection.
func (s *suite) handleStale(t *testing.T) {
	file := s.path(t, "file")
	own := &line{dial: s.target.Dial}
	c := s.connect(t, own.connect)
	defer c.Close()
	f, err := c.Files().Create(s.context(t), file)
	must(t, err)
	must(t, f.Lock(s.context(t), client.LockOptions{}))
	own.cut()
	eventually(t, "there is a new connection", func() bool {
		_, err := c.Files().Stat(s.context(t), file)
		return err == nil
	})
	_, readErr := f.Read(make([]byte, 1))
	_, writeErr := f.Write([]byte("x"))
	_, statErr := f.Stat(s.context(t))
	for what, err := range map[string]error{"read": readErr, "write": writeErr, "stat": statErr, "sync": f.Sync(s.context(t)), "close": f.Close()} {
		wantError(t, what, err, client.ErrStaleHandle)
	}
	// Its lock is gone with it.
	again, err := c.Files().OpenFile(s.context(t), file, client.OpenOptions{Write: true})
	must(t, err)
	must(t, again.Lock(s.context(t), client.LockOptions{Wait: patience}))
	must(t, again.Close())
}

// handleOfOthers: nobody else can use a handle, even if it is known.
func (s *suite) handleOfOthers(t *testing.T) {
	ctx, file := s.context(t), s.path(t, "file")
	s.put(t, file, "secret")
	mine := guestdv1.NewFileServiceClient(s.client.Conn())
	opened, err := mine.OpenFile(ctx, &guestdv1.OpenFileRequest{Path: file, Read: true})
	must(t, err)
	c := s.connect(t, s.target.Dial)
	defer c.Close()
	others := guestdv1.NewFileServiceClient(c.Conn())
	_, err = others.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: opened.GetHandle()})
	if reasonOf(err) != "STALE_HANDLE" {
		t.Errorf("read by another connection: %v", err)
	}
	_, err = others.CloseFile(ctx, &guestdv1.CloseFileRequest{Handle: opened.GetHandle()})
	if reasonOf(err) != "STALE_HANDLE" {
		t.Errorf("closed by another connection: %v", err)
	}
	read, err := mine.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: opened.GetHandle()})
	if err != nil || string(read.GetData()) != "secret" {
		t.Errorf("%v, %v", read, err)
	}
	_, err = mine.CloseFile(ctx, &guestdv1.CloseFileRequest{Handle: opened.GetHandle()})
	must(t, err)
}

// handleFreed: what a gone connection had open is closed.
func (s *suite) handleFreed(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "x")
	before := s.metrics(t).GetFileHandles()
	own := &line{dial: s.target.Dial}
	c := s.connect(t, own.connect)
	defer c.Close()
	const n = 50
	for range n {
		_, err := c.Files().OpenFile(s.context(t), file, client.OpenOptions{Read: true})
		must(t, err)
	}
	if now := s.metrics(t).GetFileHandles(); now != before+n {
		t.Errorf("%d handles are open, want %d", now, before+n)
	}
	own.cut()
	eventually(t, "the handles are closed", func() bool { return s.metrics(t).GetFileHandles() == before })
}

func (s *suite) handleAsUser(t *testing.T) {
	user := s.needUser(t)
	file := s.path(t, "file")
	f, err := s.client.FilesAs(user, "").Create(s.context(t), file)
	must(t, err)
	defer closing(t, f)
	if got := s.sh(t, "stat -c %%u:%%g %s", file); got != user {
		t.Errorf("the file belongs to %s", got)
	}
	s.sh(t, "chown 0:0 %s; chmod 600 %s", file, file)
	_, err = s.client.FilesAs(user, "").OpenFile(s.context(t), file, client.OpenOptions{Read: true})
	wantError(t, "open", err, fs.ErrPermission)
	_, err = io.WriteString(f, "what is open stays open")
	must(t, err)
}
