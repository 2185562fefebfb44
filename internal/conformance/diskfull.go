package conformance

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/guestd/guestd/client"
)

// diskFull: the old file is untouched, and the error says how much was written.
func (s *suite) diskFull(t *testing.T) {
	s.needMounts(t)
	ctx, files, dir := s.context(t), s.client.Files(), s.memory(t, ",size=1m")
	file := dir + "/file"
	s.put(t, file, "old")
	content := noise(3 << 20)
	for _, c := range []struct {
		name    string
		o       client.WriteOptions
		written bool // some of it is told to be
	}{
		{"of unknown size", client.WriteOptions{}, true},
		{"of known size", client.WriteOptions{Size: 3 << 20}, false},
	} {
		_, err := files.WriteFile(ctx, file, bytes.NewReader(content), c.o)
		wantError(t, c.name, err, client.ErrNoSpace, syscall.ENOSPC)
		var e *client.Error
		if errors.As(err, &e) && (e.Written > 1<<20 || c.written != (e.Written > 0)) {
			t.Errorf("%s: %d bytes are said to be written", c.name, e.Written)
		}
		if got := s.get(t, file); got != "old" {
			t.Errorf("%s: the file holds %.20q", c.name, got)
		}
		s.onlyFile(t, file)
	}
	_, err := files.WriteFile(ctx, file, bytes.NewReader(content), client.WriteOptions{Mode: client.Append})
	wantError(t, "append", err, client.ErrNoSpace)
	var e *client.Error
	size := s.sh(t, "stat -c %%s %s", file)
	if errors.As(err, &e) && strconv.FormatInt(e.Written, 10) != size {
		t.Errorf("append: %d bytes are said to be on the disk, the file has %s", e.Written, size)
	}
	f, err := files.OpenFile(ctx, file, client.OpenOptions{Write: true, Append: true})
	must(t, err)
	defer closing(t, f)
	_, err = f.Write(content)
	wantError(t, "handle", err, client.ErrNoSpace, syscall.ENOSPC)
	_, err = files.Copy(ctx, file, dir+"/copy", client.CopyOptions{})
	wantError(t, "copy", err, client.ErrNoSpace)
	from := t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "big"), content, 0o644))
	_, err = s.client.Upload(ctx, filepath.Join(from, "big"), file, client.UploadOptions{})
	wantError(t, "upload", err, client.ErrNoSpace)
	s.onlyFile(t, file)
	_, err = s.client.Upload(ctx, from, dir, client.UploadOptions{})
	wantError(t, "upload of a tree", err, client.ErrNoSpace)
	s.onlyFile(t, file)
}
