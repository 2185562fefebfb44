//go:build linux

package client_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/guestd/guestd/client"
)

// TestFSOverHTTP has net/http seek in files.
func TestFSOverHTTP(t *testing.T) {
	c, _ := live(t)
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789"), 30_000)
	for name, data := range map[string][]byte{"digits": content, "empty": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServerFS(c.FSAs("", dir).WithContext(within(t))))
	defer server.Close()
	for _, test := range []struct {
		name, bytes string
		status      int
		want        []byte
	}{
		{"digits", "", http.StatusOK, content},
		{"digits", "bytes=5-14", http.StatusPartialContent, content[5:15]},
		{"digits", "bytes=-3", http.StatusPartialContent, []byte("789")},
		{"digits", "bytes=299999-", http.StatusPartialContent, []byte("9")},
		{"empty", "", http.StatusOK, nil},
	} {
		request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/"+test.name, nil))
		if test.bytes != "" {
			request.Header.Set("Range", test.bytes)
		}
		response := must[*http.Response](t)(server.Client().Do(request))
		got := must[[]byte](t)(io.ReadAll(response.Body))
		response.Body.Close()
		if response.StatusCode != test.status || !bytes.Equal(got, test.want) {
			t.Errorf("%s %s: %s, %d bytes", test.name, test.bytes, response.Status, len(got))
		}
	}
}

func TestFSSeeks(t *testing.T) {
	c, _ := live(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("content")
	file := must[fs.File](t)(c.FSAs("", dir).WithContext(within(t)).Open("f"))
	seeker := file.(io.ReadSeeker)
	if at, err := seeker.Seek(-4, io.SeekEnd); at != 3 || err != nil {
		t.Errorf("%d, %v", at, err)
	}
	if data, err := io.ReadAll(seeker); string(data) != "tent" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	for _, whence := range []int{io.SeekStart, 9} {
		if _, err := seeker.Seek(-1, whence); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
	if at, err := seeker.Seek(2, io.SeekStart); at != 2 || err != nil {
		t.Errorf("%d, %v", at, err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write("another")
	if n, err := seeker.Read(make([]byte, 9)); n != 0 || err == nil {
		t.Errorf("of another file: %d, %v", n, err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := seeker.Seek(0, io.SeekStart); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v", err)
	}
	if n, err := file.Read(make([]byte, 9)); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestClosed uses what is closed, with bytes of it still on the way.
func TestClosed(t *testing.T) {
	c, _ := live(t)
	ctx := within(t)
	path := random(t, 1<<20)
	r := must[*client.Reader](t)(c.Files().Open(ctx, path, client.ReadOptions{}))
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reader: %d, %v", n, err)
	}
	f := must[*client.File](t)(c.Files().OpenFile(ctx, path, client.OpenOptions{Read: true}))
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("file: %v", err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
}
