package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// writing is about storing files, and above all about not storing them.
func (s *suite) writing(t *testing.T) {
	t.Run("modes", s.writeModes)
	t.Run("attributes", s.writeAttributes)
	t.Run("nobody sees half", s.writeAtomic)
	t.Run("one of two wins", s.writeExclusive)
	t.Run("checksum", s.writeChecksum)
	t.Run("size", s.writeSize)
	t.Run("cut", s.writeCut)
	t.Run("cancelled", s.writeCancelled)
	t.Run("source fails", s.writeSourceFails)
	t.Run("resumed", s.writeResumed)
	t.Run("resumed other content", s.writeResumedOther)
	t.Run("disk full", s.diskFull)
}

func (s *suite) writeModes(t *testing.T) {
	ctx, files, file := s.context(t), s.client.Files(), s.path(t, "file")
	inode := func() uint64 {
		t.Helper()
		info, err := files.Stat(ctx, file)
		must(t, err)
		return info.Inode()
	}
	write := func(content string, o client.WriteOptions, want string) {
		t.Helper()
		info, err := files.WriteFile(ctx, file, strings.NewReader(content), o)
		if err != nil || info.Size() != int64(len(want)) {
			t.Fatalf("%+v: %v, %v; want %d bytes", o, info, err, len(want))
		}
		if got, err := files.ReadFile(ctx, file); string(got) != want || err != nil {
			t.Errorf("%+v: %q, %v; want %q", o, got, err, want)
		}
	}
	write("exclusive", client.WriteOptions{Mode: client.Exclusive}, "exclusive")
	_, err := files.WriteBytes(ctx, file, []byte("x"), client.WriteOptions{Mode: client.Exclusive})
	wantError(t, "exclusive again", err, fs.ErrExist)
	first := inode()
	write("atomic", client.WriteOptions{}, "atomic")
	second := inode()
	write("overwritten", client.WriteOptions{Mode: client.Overwrite}, "overwritten")
	write(" and more", client.WriteOptions{Mode: client.Append}, "overwritten and more")
	write("XX", client.WriteOptions{Mode: client.Update, Offset: 4}, "overXXitten and more")
	write("end", client.WriteOptions{Mode: client.Update, Offset: 22}, "overXXitten and more\x00\x00end")
	write("", client.WriteOptions{Mode: client.Update}, "overXXitten and more\x00\x00end")
	if third := inode(); first == second || second != third {
		t.Errorf("inodes %d, %d, %d: atomic writes make a new file, others do not", first, second, third)
	}
	write("", client.WriteOptions{Mode: client.Overwrite}, "")
	must(t, files.Remove(ctx, file))
	write("new", client.WriteOptions{Mode: client.Append, Perm: 0o622}, "new")
	if info, err := files.Stat(ctx, file); err != nil || info.Mode() != 0o622 {
		t.Errorf("mode %v, %v", info, err)
	}
	must(t, files.Remove(ctx, file))
	write("new", client.WriteOptions{Mode: client.Update, Offset: 1}, "\x00new")
	write("", client.WriteOptions{Sync: true}, "")
	big := string(noise(s.scale(8_000_003, 2_000_003)))
	for _, sum := range []client.Checksum{client.CRC32C, client.SHA256, client.NoChecksum} {
		if _, err := files.WriteFile(ctx, file, strings.NewReader(big), client.WriteOptions{Checksum: sum}); err != nil || s.get(t, file) != big {
			t.Errorf("checksum %d: another content came back, %v", sum, err)
		}
	}
}

func (s *suite) writeAttributes(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")
	file := dir + "/file"
	mode := func() string { return s.sh(t, "stat -c %%a %s", file) }
	s.put(t, file, "1")
	if mode() != "644" {
		t.Errorf("a new file has mode %s", mode())
	}
	must(t, files.Chmod(ctx, file, 0o751))
	s.put(t, file, "2")
	if mode() != "751" {
		t.Errorf("a replaced file has mode %s", mode())
	}
	when := time.Unix(1_111_111_111, 222_333_444)
	info, err := files.WriteBytes(ctx, file, []byte("3"), client.WriteOptions{Perm: 0o600, ModTime: when})
	if err != nil || mode() != "600" || !info.ModTime().Equal(when) || info.Mode() != 0o600 {
		t.Errorf("asked for: %v of %v, %v", info, info.ModTime(), err)
	}
	must(t, files.Symlink(ctx, "file", dir+"/link"))
	_, err = files.WriteBytes(ctx, dir+"/link", []byte("through the link"), client.WriteOptions{})
	must(t, err)
	if got := s.get(t, file) + s.sh(t, "readlink %s/link", dir); got != "through the linkfile" {
		t.Errorf("through a link: %s", got)
	}
	_, err = files.WriteBytes(ctx, dir+"/a/b/c", nil, client.WriteOptions{})
	wantError(t, "without parents", err, fs.ErrNotExist)
	_, err = files.WriteBytes(ctx, dir+"/a/b/c", nil, client.WriteOptions{Parents: true})
	must(t, err)
	if got := s.sh(t, "stat -c %%a %s/a %s/a/b", dir, dir); got != "755\n755" {
		t.Errorf("parents' modes: %q", got)
	}
}

// slowly is a reader that a test feeds.
type slowly struct{ parts chan []byte }

func (r *slowly) Read(p []byte) (int, error) {
	part, ok := <-r.parts
	if !ok {
		return 0, io.EOF
	}
	return copy(p, part), nil
}

// halfWay begins to write a file and returns when the agent has some of it.
func (s *suite) halfWay(t *testing.T, c *client.Client, file string) (source *slowly, cancel context.CancelFunc, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(s.context(t))
	source = &slowly{parts: make(chan []byte)}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Files().WriteFile(ctx, file, source, client.WriteOptions{})
		ended <- err
	}()
	chunk := bytes.Repeat([]byte("new "), 4<<10)
	for range 64 { // the client sends what it has when it has 256 KiB
		source.parts <- chunk
	}
	// Nothing is known of the temporary file but that it lies beside the other.
	eventually(t, "some of the file is in the guest", func() bool {
		return s.sh(t, `cd %s; for f in .* *; do [ -f "$f" ] && [ "$f" != %s ] && [ -s "$f" ] && echo "$f"; done; :`, path.Dir(file), path.Base(file)) != ""
	})
	return source, cancel, ended
}

func (s *suite) writeAtomic(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	source, cancel, done := s.halfWay(t, s.client, file)
	defer cancel()
	if got := s.get(t, file); got != "old" {
		t.Errorf("in the middle of a write: %.20q", got)
	}
	source.parts <- []byte("end")
	close(source.parts)
	must(t, <-done)
	if got := s.get(t, file); !strings.HasPrefix(got, "new ") || !strings.HasSuffix(got, "new end") || len(got) != 1<<20+3 {
		t.Errorf("after it: %d bytes", len(got))
	}
	s.onlyFile(t, file)
}

// onlyFile checks that nothing else is left beside a file.
func (s *suite) onlyFile(t *testing.T, file string) {
	t.Helper()
	if names := s.names(t, path.Dir(file)); len(names) != 1 || names[0] != path.Base(file) {
		t.Errorf("left: %q", names)
	}
}

// writeExclusive: of two at once exactly one wins, and the file is all its own.
func (s *suite) writeExclusive(t *testing.T) {
	ctx, files := s.context(t), s.client.Files()
	const writers = 4
	for round := range s.scale(20, 5) {
		file := s.path(t, fmt.Sprintf("file%d", round))
		errs := make(chan error, writers)
		start := make(chan struct{})
		for i := range writers {
			go func() {
				<-start
				_, err := files.WriteBytes(ctx, file, bytes.Repeat([]byte{byte('a' + i)}, 10_000), client.WriteOptions{Mode: client.Exclusive})
				errs <- err
			}()
		}
		close(start)
		won := 0
		for range writers {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, fs.ErrExist) {
				t.Errorf("a loser: %v", err)
			}
		}
		got := s.get(t, file)
		if won != 1 || len(got) != 10_000 || strings.Count(got, got[:1]) != 10_000 {
			t.Errorf("%d won, and the file has %d bytes", won, len(got))
		}
		must(t, files.Remove(ctx, file))
	}
	if left := s.names(t, s.path(t, "")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// writeChecksum sends what this client never would.
func (s *suite) writeChecksum(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	for sum, size := range map[guestdv1.ChecksumType]int{guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C: 4, guestdv1.ChecksumType_CHECKSUM_TYPE_SHA256: 32} {
		call, err := guestdv1.NewFileServiceClient(s.client.Conn()).Write(s.context(t))
		must(t, err)
		must(t, call.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: &guestdv1.WriteStart{Path: file, Checksum: sum}}}))
		must(t, call.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: []byte("new")}}))
		must(t, call.Send(&guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Commit{Commit: &guestdv1.WriteCommit{
			Checksum: &guestdv1.Checksum{Type: sum, Value: make([]byte, size)},
		}}}))
		_, err = call.CloseAndRecv()
		if reasonOf(err) != "CHECKSUM_MISMATCH" {
			t.Errorf("%v: %v", sum, err)
		}
		if got := s.get(t, file); got != "old" {
			t.Errorf("%v: the file holds %q", sum, got)
		}
		s.onlyFile(t, file)
	}
}

func (s *suite) writeSize(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	for _, size := range []int64{1, 99, 1 << 43} {
		_, err := s.client.Files().WriteFile(s.context(t), file, strings.NewReader("new"), client.WriteOptions{Size: size})
		wantError(t, fmt.Sprintf("3 bytes instead of %d", size), err)
		if got := s.get(t, file); got != "old" {
			t.Errorf("the file holds %q", got)
		}
		s.onlyFile(t, file)
	}
}

// writeCut: a connection that breaks in the middle leaves the old file, and
// nothing beside it.
func (s *suite) writeCut(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	own := &line{dial: s.target.Dial}
	c := s.connect(t, own.connect)
	defer c.Close()
	source, cancel, done := s.halfWay(t, c, file)
	defer cancel()
	own.cut()
	close(source.parts)
	wantError(t, "cut", <-done, client.ErrUnavailable)
	eventually(t, "the temporary file is gone", func() bool { return len(s.names(t, path.Dir(file))) == 1 })
	if got := s.get(t, file); got != "old" {
		t.Errorf("the file holds %.20q", got)
	}
}

func (s *suite) writeCancelled(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	source, cancel, done := s.halfWay(t, s.client, file)
	defer cancel()
	cancel()
	close(source.parts)
	wantError(t, "cancelled", <-done, context.Canceled)
	eventually(t, "the temporary file is gone", func() bool { return len(s.names(t, path.Dir(file))) == 1 })
	if got := s.get(t, file); got != "old" {
		t.Errorf("the file holds %.20q", got)
	}
}

var errSource = errors.New("the source broke")

func (s *suite) writeSourceFails(t *testing.T) {
	file := s.path(t, "file")
	s.put(t, file, "old")
	source := io.MultiReader(bytes.NewReader(noise(600_000)), brokenReader{})
	_, err := s.client.Files().WriteFile(s.context(t), file, source, client.WriteOptions{})
	wantError(t, "a source that breaks", err, errSource)
	eventually(t, "the temporary file is gone", func() bool { return len(s.names(t, path.Dir(file))) == 1 })
	if got := s.get(t, file); got != "old" {
		t.Errorf("the file holds %.20q", got)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errSource }
