//go:build linux

package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// uploadTree sends a tar stream.
func (c *fileClient) uploadTree(ctx context.Context, start *guestdv1.UploadTreeStart, data []byte) (*guestdv1.TreeSummary, error) {
	stream, err := c.UploadTree(ctx)
	if err != nil {
		return nil, err
	}
	req := &guestdv1.UploadTreeRequest{Part: &guestdv1.UploadTreeRequest_Start{Start: start}}
	for {
		if stream.Send(req) != nil || len(data) == 0 {
			resp, err := stream.CloseAndRecv()
			return resp.GetSummary(), err
		}
		n := min(len(data), 250_001)
		req = &guestdv1.UploadTreeRequest{Part: &guestdv1.UploadTreeRequest_Data{Data: data[:n]}}
		data = data[n:]
	}
}

// downloadTree receives a tar stream.
func (c *fileClient) downloadTree(ctx context.Context, req *guestdv1.DownloadTreeRequest) (data []byte, summary *guestdv1.TreeSummary, err error) {
	stream, err := c.DownloadTree(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return data, summary, nil
		}
		if err != nil {
			return data, summary, err
		}
		data = append(data, resp.GetData()...)
		if resp.GetSummary() != nil {
			summary = resp.GetSummary()
		}
	}
}

// tarOf makes an archive.
func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, entry := range entries {
		content := []byte("content of " + entry.Name)
		if entry.Typeflag == 0 || entry.Typeflag == tar.TypeReg {
			entry.Size = int64(len(content))
		}
		if entry.Mode == 0 {
			entry.Mode = 0o644
		}
		must(t, w.WriteHeader(&entry))
		if entry.Size > 0 {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, w.Close())
	return out.Bytes()
}

// TestFileTree takes a tree out of the guest and puts it back elsewhere.
func TestFileTree(t *testing.T) {
	c := serveFiles(t)
	eachUser(t, func(t *testing.T, as *guestdv1.FileContext, uid int) {
		base := filepath.Join(c.dir, fmt.Sprint("base", uid))
		check(t, "mkdir")(c.Mkdir(testContext(t), &guestdv1.MkdirRequest{Context: as, Path: filepath.Join(base, "tree/sub"), Parents: true}))
		large := randomBytes(1<<20 + 5)
		if _, err := c.upload(testContext(t), &guestdv1.WriteStart{Context: as, Path: filepath.Join(base, "tree/large"), Permissions: ptr(uint32(0o640))}, large, 1<<20, nil); err != nil {
			t.Fatal(err)
		}
		c.put(t, as, filepath.Join(base, "tree/sub/"+"plain"), "plain content")
		c.put(t, as, filepath.Join(base, "tree/sub/skip.o"), "object")
		check(t, "symlink")(c.Symlink(testContext(t), &guestdv1.SymlinkRequest{Context: as, Target: "../large", Path: filepath.Join(base, "tree/sub/link")}))
		check(t, "link")(c.Link(testContext(t), &guestdv1.LinkRequest{Context: as, Target: filepath.Join(base, "tree/large"), Path: filepath.Join(base, "tree/second")}))
		when := time.Unix(1e9, 123456789)
		must(t, os.Chtimes(filepath.Join(base, "tree/large"), when, when))

		data, down, err := c.downloadTree(testContext(t), &guestdv1.DownloadTreeRequest{Context: as, Path: filepath.Join(base, "tree"), ContentsOnly: true, Exclude: []string{"*.o"}})
		if err != nil {
			t.Fatal(err)
		}
		if down.GetFiles() != 2 || down.GetSymlinks() != 1 || down.GetHardLinks() != 1 || down.GetSkipped() != 0 ||
			down.GetBytes() != uint64(len(large)+len("plain content")) {
			t.Errorf("downloaded %v", down)
		}
		dest := filepath.Join(base, "made/dest")
		up, err := c.uploadTree(testContext(t), &guestdv1.UploadTreeStart{Context: as, Path: dest}, data)
		if err != nil {
			t.Fatal(err)
		}
		if up.GetFiles() != 2 || up.GetSymlinks() != 1 || up.GetHardLinks() != 1 || up.GetBytes() != down.GetBytes() {
			t.Errorf("uploaded %v", up)
		}
		wantContent(t, filepath.Join(dest, "sub/link"), large)
		wantContent(t, filepath.Join(dest, "sub/plain"), []byte("plain content"))
		wantOwner(t, filepath.Join(dest, "large"), uid, 0o640)
		wantNoLeftovers(t, filepath.Join(dest, "sub"), "link", "plain")
		st := stat(t, filepath.Join(dest, "large"))
		if st.Nlink != 2 || st.Ino != stat(t, filepath.Join(dest, "second")).Ino || st.Mtim.Sec != 1e9 || st.Mtim.Nsec != 123456789 {
			t.Errorf("%+v", st)
		}
	})
}

// TestFileTreeOptions unpacks with names cut and files kept.
func TestFileTreeOptions(t *testing.T) {
	c := serveFiles(t)
	c.put(t, nil, filepath.Join(c.dir, "kept"), "old")
	archive := tarOf(t, tar.Header{Name: "top/kept"}, tar.Header{Name: "top/new"}, tar.Header{Name: "top/skip.o"})
	summary, err := c.uploadTree(testContext(t), &guestdv1.UploadTreeStart{
		Path: c.dir, StripComponents: 1, KeepExisting: true, Exclude: []string{"*.o"},
	}, archive)
	if err != nil {
		t.Fatal(err)
	}
	if summary.GetFiles() != 1 || summary.GetSkipped() != 1 || summary.GetSkips()[0].GetReason() == "" {
		t.Errorf("%v", summary)
	}
	wantContent(t, filepath.Join(c.dir, "kept"), []byte("old"))
	wantContent(t, filepath.Join(c.dir, "new"), []byte("content of top/new"))
	wantNoLeftovers(t, c.dir, "kept", "new")
}

// TestFileTreeOwners unpacks for the archive's owners.
func TestFileTreeOwners(t *testing.T) {
	needRoot(t)
	c := serveFiles(t)
	archive := tarOf(t, tar.Header{Name: "file", Uid: 1234, Gid: 77, Uname: "daemon", Gname: "daemon", Mode: 0o600})
	for owner, want := range map[guestdv1.TreeOwner][2]uint32{
		guestdv1.TreeOwner_TREE_OWNER_UNSPECIFIED: {0, 0},
		guestdv1.TreeOwner_TREE_OWNER_NUMERIC:     {1234, 77},
		guestdv1.TreeOwner_TREE_OWNER_NAMES:       {1, 1},
	} {
		if _, err := c.uploadTree(testContext(t), &guestdv1.UploadTreeStart{Path: c.dir, Owner: owner}, archive); err != nil {
			t.Fatal(err)
		}
		if st := stat(t, filepath.Join(c.dir, "file")); st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%v: belongs to %d:%d", owner, st.Uid, st.Gid)
		}
	}
}

// TestFileTreeUnsafe unpacks archives that try to get out.
func TestFileTreeUnsafe(t *testing.T) {
	c := serveFiles(t)
	outside := filepath.Join(c.dir, "outside")
	must(t, os.Mkdir(outside, 0o755))
	dest := filepath.Join(c.dir, "dest")
	for name, entries := range map[string][]tar.Header{
		"../escaped":           {{Name: "../escaped"}},
		outside + "/absolute":  {{Name: outside + "/absolute"}},
		"link/through":         {{Name: "link", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "link/through"}},
		"hard":                 {{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../secret"}},
		"a/../../also-escaped": {{Name: "a/../../also-escaped"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.uploadTree(testContext(t), &guestdv1.UploadTreeStart{Path: dest}, tarOf(t, entries...))
			wantFailure(t, err, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_UNSAFE_ENTRY, "path", name)
		})
	}
	wantNoLeftovers(t, outside)
	wantNoLeftovers(t, c.dir, "outside", "dest")
}

// TestFileTreeFailures sends and asks for what is not a tree.
func TestFileTreeFailures(t *testing.T) {
	c := serveFiles(t)
	path := filepath.Join(c.dir, "file")
	c.put(t, nil, path, "x")
	whole := tarOf(t, tar.Header{Name: "file"})
	for name, test := range map[string]struct {
		start  *guestdv1.UploadTreeStart
		data   []byte
		code   codes.Code
		reason guestdv1.ErrorReason
	}{
		"no archive":    {&guestdv1.UploadTreeStart{Path: c.dir}, bytes.Repeat([]byte("no"), 600), codes.InvalidArgument, invalid},
		"cut archive":   {&guestdv1.UploadTreeStart{Path: c.dir}, whole[:520], codes.InvalidArgument, invalid},
		"empty archive": {&guestdv1.UploadTreeStart{Path: c.dir}, nil, codes.InvalidArgument, invalid},
		"into a file":   {&guestdv1.UploadTreeStart{Path: path}, whole, codes.FailedPrecondition, wrongKind},
		"bad pattern":   {&guestdv1.UploadTreeStart{Path: c.dir, Exclude: []string{"[a"}}, whole, codes.InvalidArgument, invalid},
		"odd owner":     {&guestdv1.UploadTreeStart{Path: c.dir, Owner: 99}, whole, codes.InvalidArgument, invalid},
		"no path":       {&guestdv1.UploadTreeStart{}, whole, codes.InvalidArgument, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.uploadTree(testContext(t), test.start, test.data)
			wantFailure(t, err, test.code, test.reason)
		})
	}
	wantContent(t, path, []byte("x"))
	wantNoLeftovers(t, c.dir, "file")
	_, _, err := c.downloadTree(testContext(t), &guestdv1.DownloadTreeRequest{Path: path + "no"})
	wantFailure(t, err, codes.NotFound, notFound, "path", path+"no", "errno", "ENOENT")

	needRoot(t)
	must(t, os.Chmod(path, 0o600))
	user := &guestdv1.FileContext{User: "1000:1000"}
	data, summary, err := c.downloadTree(testContext(t), &guestdv1.DownloadTreeRequest{Context: user, Path: c.dir})
	if err != nil || summary.GetSkipped() != 1 || bytes.Contains(data, []byte("/file\x00")) {
		t.Errorf("what may not be read: %v, %v", summary, err)
	}
	_, err = c.uploadTree(testContext(t), &guestdv1.UploadTreeStart{Context: user, Path: "/root-only"}, whole)
	wantFailure(t, err, codes.PermissionDenied, denied, "path", "", "errno", "EACCES")
}

// TestFileTreeCut cancels transfers of trees in the middle.
func TestFileTreeCut(t *testing.T) {
	c := serveFiles(t)
	must(t, os.WriteFile(filepath.Join(c.dir, "hole"), nil, 0o644))
	large := filepath.Join(c.dir, "large")
	must(t, os.WriteFile(large, randomBytes(32<<20), 0o644))

	ctx, cancel := context.WithCancel(testContext(t))
	down, err := c.DownloadTree(ctx, &guestdv1.DownloadTreeRequest{Path: c.dir})
	if err == nil {
		_, err = down.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = down.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("download: %v", err)
	}

	other := dialFiles(t, c.socket)
	up, err := other.UploadTree(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(c.dir, "dest")
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	must(t, w.WriteHeader(&tar.Header{Name: "first", Size: 5, Mode: 0o644}))
	if _, err := w.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	must(t, w.WriteHeader(&tar.Header{Name: "second", Size: 1 << 30, Mode: 0o644}))
	for _, req := range []*guestdv1.UploadTreeRequest{
		{Part: &guestdv1.UploadTreeRequest_Start{Start: &guestdv1.UploadTreeStart{Path: dest}}},
		{Part: &guestdv1.UploadTreeRequest_Data{Data: archive.Bytes()}},
		{Part: &guestdv1.UploadTreeRequest_Data{Data: make([]byte, 1<<20)}},
	} {
		must(t, up.Send(req))
	}
	eventually(t, "the first file is there", func() bool {
		content, err := os.ReadFile(filepath.Join(dest, "first"))
		return err == nil && string(content) == "first"
	})
	release(other.conn)
	eventually(t, "only whole files are left", func() bool {
		entries, err := os.ReadDir(dest)
		return err == nil && len(entries) == 1
	})
}
