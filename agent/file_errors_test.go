//go:build linux

package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// failure is a call that must fail, and how.
type failure struct {
	name   string
	call   func(ctx context.Context, c *fileClient) error
	code   codes.Code
	reason guestdv1.ErrorReason
	meta   []string
}

// failing makes a failure's call of a unary call.
func failing[Req, Resp any](call func(*fileClient, context.Context, Req) (Resp, error), req Req) func(context.Context, *fileClient) error {
	return func(ctx context.Context, c *fileClient) error {
		_, err := call(c, ctx, req)
		return err
	}
}

// These give the stub's methods, which take call options, a plain shape.
func callStat(c *fileClient, ctx context.Context, req *guestdv1.StatRequest) (*guestdv1.StatResponse, error) {
	return c.Stat(ctx, req)
}

func callMkdir(c *fileClient, ctx context.Context, req *guestdv1.MkdirRequest) (*guestdv1.MkdirResponse, error) {
	return c.Mkdir(ctx, req)
}

func callRemove(c *fileClient, ctx context.Context, req *guestdv1.RemoveRequest) (*guestdv1.RemoveResponse, error) {
	return c.Remove(ctx, req)
}

func callRename(c *fileClient, ctx context.Context, req *guestdv1.RenameRequest) (*guestdv1.RenameResponse, error) {
	return c.Rename(ctx, req)
}

func callChmod(c *fileClient, ctx context.Context, req *guestdv1.ChmodRequest) (*guestdv1.ChmodResponse, error) {
	return c.Chmod(ctx, req)
}

func callChown(c *fileClient, ctx context.Context, req *guestdv1.ChownRequest) (*guestdv1.ChownResponse, error) {
	return c.Chown(ctx, req)
}

func callReadDir(c *fileClient, ctx context.Context, req *guestdv1.ReadDirRequest) (*guestdv1.ReadDirResponse, error) {
	return c.ReadDir(ctx, req)
}

func callReadLink(c *fileClient, ctx context.Context, req *guestdv1.ReadLinkRequest) (*guestdv1.ReadLinkResponse, error) {
	return c.ReadLink(ctx, req)
}

func callOpen(c *fileClient, ctx context.Context, req *guestdv1.OpenFileRequest) (*guestdv1.OpenFileResponse, error) {
	return c.OpenFile(ctx, req)
}

func callLink(c *fileClient, ctx context.Context, req *guestdv1.LinkRequest) (*guestdv1.LinkResponse, error) {
	return c.Link(ctx, req)
}

func callRead(c *fileClient, ctx context.Context, req *guestdv1.ReadRequest) (*guestdv1.ReadEnd, error) {
	_, _, end, err := c.download(ctx, req)
	return end, err
}

func callWrite(c *fileClient, ctx context.Context, start *guestdv1.WriteStart) (*guestdv1.WriteResponse, error) {
	return c.upload(ctx, start, []byte("x"), 1, nil)
}

func callGlob(c *fileClient, ctx context.Context, req *guestdv1.GlobRequest) (any, error) {
	stream, err := c.Glob(ctx, req)
	if err != nil {
		return nil, err
	}
	return stream.Recv()
}

func callWalk(c *fileClient, ctx context.Context, req *guestdv1.WalkRequest) (any, error) {
	stream, err := c.Walk(ctx, req)
	if err != nil {
		return nil, err
	}
	return stream.Recv()
}

// Reasons under shorter names.
const (
	invalid    = guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	notFound   = guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	exists     = guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	denied     = guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	wrongKind  = guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE
	systemSays = guestdv1.ErrorReason_ERROR_REASON_SYSTEM
)

// TestFileFailures goes through what a client may ask for in vain.
func TestFileFailures(t *testing.T) {
	c := serveFiles(t)
	at := func(name string) string { return filepath.Join(c.dir, name) }
	c.put(t, nil, at("file"), "content")
	makeFixtures(t, c.dir)
	long := at(strings.Repeat("n", 256))
	for _, f := range []failure{
		{"empty path", failing(callStat, &guestdv1.StatRequest{}), codes.InvalidArgument, invalid, nil},
		{"NUL", failing(callStat, &guestdv1.StatRequest{RawPath: []byte("/a\x00b")}), codes.InvalidArgument, invalid, nil},
		{"relative base", failing(callStat, &guestdv1.StatRequest{Context: &guestdv1.FileContext{Base: "a"}, Path: "b"}), codes.InvalidArgument, invalid, nil},
		{"unknown user", failing(callStat, &guestdv1.StatRequest{Context: &guestdv1.FileContext{User: "nobody-at-all"}, Path: "/"}), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, nil},
		{"missing", failing(callStat, &guestdv1.StatRequest{Path: at("no")}), codes.NotFound, notFound, []string{"path", at("no"), "errno", "ENOENT", "op", "stat"}},
		{"long name", failing(callStat, &guestdv1.StatRequest{Path: long}), codes.InvalidArgument, invalid, []string{"path", long, "errno", "ENAMETOOLONG"}},
		{"loop", failing(callStat, &guestdv1.StatRequest{Path: at("loop/x")}), codes.FailedPrecondition, systemSays, []string{"path", at("loop/x"), "errno", "ELOOP"}},
		{"file as directory", failing(callStat, &guestdv1.StatRequest{Path: at("file/x")}), codes.FailedPrecondition, wrongKind, []string{"errno", "ENOTDIR"}},
		{"list a file", failing(callReadDir, &guestdv1.ReadDirRequest{Path: at("file")}), codes.FailedPrecondition, wrongKind, []string{"path", at("file"), "errno", "ENOTDIR"}},
		{"strange page", failing(callReadDir, &guestdv1.ReadDirRequest{Path: c.dir, PageToken: []byte("abc")}), codes.InvalidArgument, invalid, nil},
		{"page of elsewhere", failing(callReadDir, &guestdv1.ReadDirRequest{Path: c.dir, PageToken: pageToken{1, 2, 3}.marshal()}), codes.InvalidArgument, invalid, nil},
		{"walk a file", failing(callWalk, &guestdv1.WalkRequest{Path: at("file")}), codes.FailedPrecondition, wrongKind, []string{"path", at("file"), "errno", "ENOTDIR"}},
		{"walk nothing", failing(callWalk, &guestdv1.WalkRequest{Path: at("no")}), codes.NotFound, notFound, []string{"path", at("no"), "errno", "ENOENT"}},
		{"bad exclude", failing(callWalk, &guestdv1.WalkRequest{Path: c.dir, Exclude: []string{"[a"}}), codes.InvalidArgument, invalid, nil},
		{"bad glob", failing(callGlob, &guestdv1.GlobRequest{Pattern: "/tmp/[a"}), codes.InvalidArgument, invalid, nil},
		{"empty glob", failing(callGlob, &guestdv1.GlobRequest{}), codes.InvalidArgument, invalid, nil},
		{"read a directory", failing(callRead, &guestdv1.ReadRequest{Path: c.dir}), codes.FailedPrecondition, wrongKind, []string{"path", c.dir, "errno", "EISDIR"}},
		{"read a FIFO", failing(callRead, &guestdv1.ReadRequest{Path: at("fifo")}), codes.FailedPrecondition, wrongKind, []string{"path", at("fifo")}},
		{"read a device", failing(callRead, &guestdv1.ReadRequest{Path: "/dev/zero"}), codes.FailedPrecondition, wrongKind, []string{"path", "/dev/zero"}},
		{"read with odd sum", failing(callRead, &guestdv1.ReadRequest{Path: at("file"), Checksum: 99}), codes.InvalidArgument, invalid, nil},
		{"sum without end", failing(callRead, &guestdv1.ReadRequest{Path: at("file"), Follow: true, Checksum: 1}), codes.InvalidArgument, invalid, nil},
		{"write a directory", failing(callWrite, &guestdv1.WriteStart{Path: c.dir}), codes.FailedPrecondition, wrongKind, []string{"path", c.dir, "errno", "EISDIR"}},
		{"write a FIFO", failing(callWrite, &guestdv1.WriteStart{Path: at("fifo")}), codes.FailedPrecondition, wrongKind, []string{"path", at("fifo")}},
		{"write in nothing", failing(callWrite, &guestdv1.WriteStart{Path: at("no/file")}), codes.NotFound, notFound, []string{"path", at("no/file"), "errno", "ENOENT"}},
		{"write again", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Mode: guestdv1.WriteMode_WRITE_MODE_EXCLUSIVE}), codes.AlreadyExists, exists, []string{"path", at("file"), "errno", "EEXIST"}},
		{"write oddly", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Mode: 99}), codes.InvalidArgument, invalid, nil},
		{"write odd permissions", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Permissions: ptr(uint32(0o10000))}), codes.InvalidArgument, invalid, nil},
		{"write for nobody", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Owner: "nobody-at-all"}), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, nil},
		{"offset of nothing", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Offset: 1}), codes.InvalidArgument, invalid, nil},
		{"resume in place", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), ResumeId: "a", Mode: guestdv1.WriteMode_WRITE_MODE_APPEND}), codes.InvalidArgument, invalid, nil},
		{"odd resume id", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), ResumeId: "a/b"}), codes.InvalidArgument, invalid, nil},
		{"resume nothing", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), ResumeId: "a", Offset: 7}), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH, []string{"path", at("file")}},
		{"other size", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Size: ptr(uint64(2))}), codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, []string{"want", "2", "got", "1"}},
		{"no size", failing(callWrite, &guestdv1.WriteStart{Path: at("file"), Size: ptr(uint64(0))}), codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, []string{"want", "0", "got", "1"}},
		{"mkdir again", failing(callMkdir, &guestdv1.MkdirRequest{Path: at("dir")}), codes.AlreadyExists, exists, []string{"path", at("dir"), "errno", "EEXIST", "op", "mkdir"}},
		{"mkdir over a file", failing(callMkdir, &guestdv1.MkdirRequest{Path: at("file"), Parents: true}), codes.FailedPrecondition, wrongKind, []string{"errno", "ENOTDIR"}},
		{"mkdir of odd mode", failing(callMkdir, &guestdv1.MkdirRequest{Path: at("new"), Mode: ptr(uint32(1 << 20))}), codes.InvalidArgument, invalid, nil},
		{"remove a full directory", failing(callRemove, &guestdv1.RemoveRequest{Path: at("dir")}), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY, []string{"path", at("dir"), "errno", "ENOTEMPTY"}},
		{"remove nothing", failing(callRemove, &guestdv1.RemoveRequest{Path: at("no")}), codes.NotFound, notFound, []string{"path", at("no")}},
		{"rename nothing", failing(callRename, &guestdv1.RenameRequest{From: at("no"), To: at("new")}), codes.NotFound, notFound, []string{"errno", "ENOENT"}},
		{"rename over", failing(callRename, &guestdv1.RenameRequest{From: at("file"), To: at("dir"), NoReplace: true}), codes.AlreadyExists, exists, []string{"path", at("dir"), "errno", "EEXIST"}},
		{"rename twice", failing(callRename, &guestdv1.RenameRequest{From: at("file"), To: at("dir"), NoReplace: true, Exchange: true}), codes.InvalidArgument, invalid, nil},
		{"rename far", failing(callRename, &guestdv1.RenameRequest{From: at("file"), To: "/dev/shm/guestd-rename"}), codes.FailedPrecondition, systemSays, []string{"errno", "EXDEV"}},
		{"chmod oddly", failing(callChmod, &guestdv1.ChmodRequest{Path: at("file"), Mode: 1 << 16}), codes.InvalidArgument, invalid, nil},
		{"chown to nobody", failing(callChown, &guestdv1.ChownRequest{Path: at("file")}), codes.InvalidArgument, invalid, nil},
		{"readlink of a file", failing(callReadLink, &guestdv1.ReadLinkRequest{Path: at("file")}), codes.FailedPrecondition, wrongKind, []string{"path", at("file"), "errno", "EINVAL"}},
		{"open for nothing", failing(callOpen, &guestdv1.OpenFileRequest{Path: at("file")}), codes.InvalidArgument, invalid, nil},
		{"open to read and cut", failing(callOpen, &guestdv1.OpenFileRequest{Path: at("file"), Read: true, Truncate: true}), codes.InvalidArgument, invalid, nil},
		{"open a FIFO", failing(callOpen, &guestdv1.OpenFileRequest{Path: at("fifo"), Read: true}), codes.FailedPrecondition, wrongKind, []string{"path", at("fifo")}},
		{"open a directory", failing(callOpen, &guestdv1.OpenFileRequest{Path: c.dir, Read: true}), codes.FailedPrecondition, wrongKind, []string{"errno", "EISDIR"}},
		{"open a link", failing(callOpen, &guestdv1.OpenFileRequest{Path: at("loop"), Read: true, NoFollow: true}), codes.FailedPrecondition, wrongKind, []string{"errno", "ELOOP"}},
		{"open again", failing(callOpen, &guestdv1.OpenFileRequest{Path: at("file"), Write: true, Create: true, Exclusive: true}), codes.AlreadyExists, exists, []string{"errno", "EEXIST"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			err := f.call(testContext(t), c)
			wantFailure(t, err, f.code, f.reason, f.meta...)
		})
	}
	// None of it has changed anything.
	wantContent(t, at("file"), []byte("content"))
	wantNoLeftovers(t, c.dir, "file", "fifo", "loop", "dir")
}

// makeFixtures makes a FIFO, a link that leads to itself and a directory with
// something in it.
func makeFixtures(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "dir", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestFileRights has a user try what only root may.
func TestFileRights(t *testing.T) {
	needRoot(t)
	c := serveFiles(t)
	private := filepath.Join(c.dir, "private")
	if err := os.Mkdir(private, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(private, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := &guestdv1.FileContext{User: "1000:1000"}
	inPrivate := filepath.Join(private, "new")
	for _, f := range []failure{
		{"read", failing(callRead, &guestdv1.ReadRequest{Context: user, Path: secret}), 0, 0, []string{"path", secret, "errno", "EACCES"}},
		{"write", failing(callWrite, &guestdv1.WriteStart{Context: user, Path: inPrivate}), 0, 0, []string{"path", inPrivate, "errno", "EACCES"}},
		{"overwrite", failing(callWrite, &guestdv1.WriteStart{Context: user, Path: secret, Mode: guestdv1.WriteMode_WRITE_MODE_TRUNCATE}), 0, 0, []string{"path", secret, "errno", "EACCES"}},
		{"mkdir", failing(callMkdir, &guestdv1.MkdirRequest{Context: user, Path: inPrivate}), 0, 0, []string{"path", inPrivate, "errno", "EACCES"}},
		{"remove", failing(callRemove, &guestdv1.RemoveRequest{Context: user, Path: secret}), 0, 0, []string{"errno", "EACCES"}},
		{"chmod", failing(callChmod, &guestdv1.ChmodRequest{Context: user, Path: secret, Mode: 0o777}), 0, 0, []string{"errno", "EPERM"}},
		{"chown", failing(callChown, &guestdv1.ChownRequest{Context: user, Path: secret, Owner: "1000"}), 0, 0, []string{"errno", "EPERM"}},
		{"open", failing(callOpen, &guestdv1.OpenFileRequest{Context: user, Path: secret, Read: true}), 0, 0, []string{"errno", "EACCES"}},
		{"give away", failing(callWrite, &guestdv1.WriteStart{Context: user, Path: filepath.Join(c.dir, "gift"), Owner: "root"}), 0, 0, []string{"errno", "EPERM"}},
		{"rename", failing(callRename, &guestdv1.RenameRequest{Context: user, From: secret, To: filepath.Join(c.dir, "mine")}), 0, 0, []string{"errno", "EACCES"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			wantFailure(t, f.call(testContext(t), c), codes.PermissionDenied, denied, f.meta...)
		})
	}
	wantContent(t, secret, []byte("secret"))
	wantOwner(t, secret, 0, 0o600)
	wantNoLeftovers(t, c.dir, "private")
	wantNoLeftovers(t, private, "secret")

	t.Run("hard link", func(t *testing.T) {
		protected, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
		if err != nil || protected[0] != '1' {
			t.Skip("SKIP: fs.protected_hardlinks is off")
		}
		call := failing(callLink, &guestdv1.LinkRequest{Context: user, Target: secret, Path: filepath.Join(c.dir, "l")})
		wantFailure(t, call(testContext(t), c), codes.PermissionDenied, denied, "errno", "EPERM")
	})
}
