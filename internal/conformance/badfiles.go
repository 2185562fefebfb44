package conformance

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// badFiles is about paths and requests that cannot be right.
func (s *suite) badFiles(t *testing.T) {
	t.Run("paths", s.badPaths)
	t.Run("types", s.wrongTypes)
	t.Run("contexts", s.badContexts)
	t.Run("requests", s.badRequests)
	s.alive(t)
}

// badPaths: each call says of each bad path what is wrong with it, and of which
// path it speaks.
func (s *suite) badPaths(t *testing.T) {
	dir := s.path(t, "")
	s.sh(t, "cd %s; : >file; ln -s loop2 loop1; ln -s loop1 loop2; ln -s self/self self", dir)
	long := dir + "/" + strings.Repeat("n", 256)
	deep := dir + strings.Repeat("/directory", 500)
	for _, c := range []struct {
		path string
		want []error
	}{
		{dir + "/none/x", []error{fs.ErrNotExist, syscall.ENOENT}},
		{dir + "/file/x", []error{client.ErrWrongType, syscall.ENOTDIR}},
		{dir + "/loop1/x", []error{syscall.ELOOP}},
		{dir + "/self/x", []error{syscall.ELOOP}},
		{long, []error{client.ErrInvalidRequest, syscall.ENAMETOOLONG}},
		{deep, []error{client.ErrInvalidRequest, syscall.ENAMETOOLONG}},
		{dir + "/a\x00b", []error{client.ErrInvalidRequest}},
		{dir + "/\xff\x00", []error{client.ErrInvalidRequest}},
	} {
		for name, call := range s.pathCalls(s.context(t), path.Dir(dir)) {
			if c.path == deep && name == "realpath" {
				continue // it goes step by step, and the first is missing
			}
			err := call(c.path)
			what := name + " " + c.path[len(dir):min(len(c.path), len(dir)+20)]
			wantError(t, what, err, c.want...)
			// Long ones are cut, and of two paths the error names the second.
			var e *client.Error
			plain := len(c.path) < 1000 && !strings.Contains(c.path, "\x00") && name != "rename" && name != "copy"
			if errors.As(err, &e) && plain && e.Path != c.path {
				t.Errorf("%s: the error is about %q", what, e.Path)
			}
		}
	}
	if got := s.names(t, dir); len(got) != 4 {
		t.Errorf("something was made: %q", got)
	}
}

// pathCalls is everything that takes a path. None of it makes parents.
func (s *suite) pathCalls(ctx context.Context, elsewhere string) map[string]func(string) error {
	files := s.client.Files()
	return map[string]func(string) error{
		"stat":   func(p string) error { _, err := files.Stat(ctx, p); return err },
		"lstat":  func(p string) error { _, err := files.Lstat(ctx, p); return err },
		"statfs": func(p string) error { _, err := files.StatFilesystem(ctx, p); return err },
		"read":   func(p string) error { _, err := files.ReadFile(ctx, p); return err },
		"write": func(p string) error {
			_, err := files.WriteBytes(ctx, p, []byte("x"), client.WriteOptions{})
			return err
		},
		"append": func(p string) error {
			_, err := files.WriteBytes(ctx, p, []byte("x"), client.WriteOptions{Mode: client.Append})
			return err
		},
		"open":   func(p string) error { _, err := files.Create(ctx, p); return err },
		"mkdir":  func(p string) error { return files.Mkdir(ctx, p, 0o755) },
		"remove": func(p string) error { return files.Remove(ctx, p) },
		"rename": func(p string) error { return files.Rename(ctx, p, elsewhere+"/never", client.RenameOptions{}) },
		"copy": func(p string) error {
			_, err := files.Copy(ctx, p, elsewhere+"/never", client.CopyOptions{})
			return err
		},
		"link":     func(p string) error { return files.Link(ctx, elsewhere, p) },
		"symlink":  func(p string) error { return files.Symlink(ctx, "x", p) },
		"readlink": func(p string) error { _, err := files.Readlink(ctx, p); return err },
		"realpath": func(p string) error { _, err := files.RealPath(ctx, p, false); return err },
		"chmod":    func(p string) error { return files.Chmod(ctx, p, 0o644) },
		"chown":    func(p string) error { return files.Chown(ctx, p, "0", "0") },
		"truncate": func(p string) error { return files.Truncate(ctx, p, 0) },
		"temp":     func(p string) error { _, err := files.CreateTemp(ctx, p, ""); return err },
		"watch":    func(p string) error { _, err := files.Watch(ctx, p, client.WatchOptions{}); return err },
		"readdir": func(p string) error {
			for _, err := range files.ReadDir(ctx, p, client.ReadDirOptions{}) {
				return err
			}
			return nil
		},
	}
}

func (s *suite) wrongTypes(t *testing.T) {
	ctx, files, dir := s.context(t), s.client.Files(), s.path(t, "")
	s.sh(t, "cd %s; : >file; mkdir dir; ln -s file link", dir)
	_, readErr := files.ReadFile(ctx, dir+"/dir")
	_, openErr := files.Create(ctx, dir+"/dir")
	_, linkErr := files.OpenFile(ctx, dir+"/link", client.OpenOptions{Read: true, NoFollow: true})
	wantError(t, "read a directory", readErr, client.ErrWrongType)
	wantError(t, "create a directory", openErr, client.ErrWrongType)
	wantError(t, "open a link itself", linkErr, client.ErrWrongType)
	for _, mode := range []client.WriteMode{client.Atomic, client.Overwrite, client.Append, client.Update} {
		_, err := files.WriteBytes(ctx, dir+"/dir", []byte("x"), client.WriteOptions{Mode: mode})
		wantError(t, "write a directory", err, client.ErrWrongType)
	}
	for _, err := range files.ReadDir(ctx, dir+"/file", client.ReadDirOptions{}) {
		wantError(t, "list a file", err, client.ErrWrongType, syscall.ENOTDIR)
	}
	_, err := s.client.Upload(ctx, t.TempDir(), dir+"/file", client.UploadOptions{})
	wantError(t, "a tree onto a file", err)
	if got := s.names(t, dir); len(got) != 3 {
		t.Errorf("left: %q", got)
	}
}

func (s *suite) badContexts(t *testing.T) {
	ctx, dir := s.context(t), s.path(t, "")
	for _, c := range []struct {
		user, base string
		want       error
	}{
		{"no-such-user", "", client.ErrUnknownUser},
		{"0:no-such-group", "", client.ErrUnknownUser},
		{"", "relative", client.ErrInvalidRequest},
		{"", "/a\x00b", client.ErrInvalidRequest},
		{"", "~no-such-user", client.ErrUnknownUser},
	} {
		_, err := s.client.FilesAs(c.user, c.base).Stat(ctx, "x")
		wantError(t, c.user+" "+c.base, err, c.want)
	}
	_, err := s.client.FilesAs("", dir+"/none").Stat(ctx, "x")
	wantError(t, "a base that is not there", err, fs.ErrNotExist)
	_, err = s.client.Files().Stat(ctx, dir+"/none")
	var e *client.Error
	if !errors.As(err, &e) || e.Path != dir+"/none" || e.Symbol != "ENOENT" || !strings.Contains(e.Error(), dir+"/none") {
		t.Errorf("the error does not say what it is about: %+v", e)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.client.Files().Stat(gone, dir)
	wantError(t, "a context that is done", err, context.Canceled)
}

// reasonOf is the agent's reason in an error of a raw stub.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return status.Code(err).String()
}

// badRequests are such as this client would never send.
func (s *suite) badRequests(t *testing.T) {
	ctx, dir := s.context(t), s.path(t, "")
	stub := guestdv1.NewFileServiceClient(s.client.Conn())
	want := func(what string, err error, reasons ...string) {
		t.Helper()
		got := reasonOf(err)
		for _, reason := range reasons {
			if err != nil && got == reason {
				return
			}
		}
		t.Errorf("%s: %v (%s), want %v", what, err, got, reasons)
	}
	write := func(parts ...*guestdv1.WriteRequest) error {
		call, err := stub.Write(ctx)
		must(t, err)
		for _, part := range parts {
			if err := call.Send(part); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_, err = call.CloseAndRecv()
		return err
	}
	data := &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Data{Data: []byte("x")}}
	start := func(start *guestdv1.WriteStart) *guestdv1.WriteRequest {
		start.Path = dir + "/file"
		return &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Start{Start: start}}
	}
	const invalid = "INVALID_REQUEST"
	want("no start", write(data), invalid)
	want("nothing at all", write(), invalid)
	want("an empty part", write(&guestdv1.WriteRequest{}), invalid)
	want("two starts", write(start(&guestdv1.WriteStart{}), start(&guestdv1.WriteStart{})), invalid)
	want("no such mode", write(start(&guestdv1.WriteStart{Mode: 99}), data), invalid)
	want("no such checksum", write(start(&guestdv1.WriteStart{Checksum: 99}), data), invalid)
	want("mode bits", write(start(&guestdv1.WriteStart{Permissions: new(uint32(1 << 20))}), data), invalid)
	want("a resume id that is a path", write(start(&guestdv1.WriteStart{ResumeId: "../x"}), data), invalid)
	want("nothing to resume", write(start(&guestdv1.WriteStart{ResumeId: "x", Offset: 5}), data), "RESUME_MISMATCH")
	_, err := stub.ReadDir(ctx, &guestdv1.ReadDirRequest{Path: dir, PageToken: []byte("nonsense")})
	want("a page that never was", err, invalid, "STALE_HANDLE", "NOT_FOUND")
	_, err = stub.OpenFile(ctx, &guestdv1.OpenFileRequest{Path: dir + "/file"})
	want("neither read nor write", err, invalid)
	_, err = stub.ReadFile(ctx, &guestdv1.ReadFileRequest{Handle: "nonsense"})
	want("no such handle", err, "STALE_HANDLE", invalid)
	_, err = stub.Stat(ctx, &guestdv1.StatRequest{})
	want("no path", err, invalid)
	if got := s.names(t, dir); len(got) != 0 {
		t.Errorf("something was made: %q", got)
	}
}
