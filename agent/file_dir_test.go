//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// maxListing is what no message of a listing may exceed.
const maxListing = 256 << 10

// walk returns all that a Walk lists, none of which may be an error.
func (c *fileClient) walk(t testing.TB, req *guestdv1.WalkRequest) []*guestdv1.FileInfo {
	t.Helper()
	entries, failed := c.walkAll(t, req)
	for _, e := range failed {
		t.Errorf("walk: %v", e)
	}
	return entries
}

func (c *fileClient) walkAll(t testing.TB, req *guestdv1.WalkRequest) (entries []*guestdv1.FileInfo, failed []*guestdv1.WalkError) {
	t.Helper()
	stream, err := c.Walk(testContext(t), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, resp := range receiveAll(t, stream) {
		entries = append(entries, resp.GetEntries()...)
		failed = append(failed, resp.GetErrors()...)
	}
	return entries, failed
}

// receiveAll receives a listing to its end.
func receiveAll[T any, P interface {
	*T
	proto.Message
}](t testing.TB, stream grpc.ServerStreamingClient[T]) (all []*T) {
	t.Helper()
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if size := proto.Size(P(resp)); size > maxListing {
			t.Errorf("a message has %d bytes", size)
		}
		all = append(all, resp)
	}
}

// paths returns the paths of entries, sorted.
func paths(entries []*guestdv1.FileInfo) []string {
	all := []string{}
	for _, entry := range entries {
		all = append(all, entry.GetPath())
	}
	slices.Sort(all)
	return all
}

// fill makes n empty files with longish names in dir.
func fill(t testing.TB, dir string, n int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for i := range n {
		if err := unix.Mknodat(fd, fmt.Sprintf("a-file-with-a-name-%07d", i), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// memoryDir is a directory for many or large files.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "guestd")
	if err != nil {
		t.Skipf("SKIP: no memory file system: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFileLargeDirectory lists 100,000 entries in every way, while others are
// made and removed.
func TestFileLargeDirectory(t *testing.T) {
	const count = 100_000
	c := serveFiles(t)
	c.dir = memoryDir(t) // a disk that others use, too, takes minutes for this
	large := filepath.Join(c.dir, "large")
	fill(t, large, count)

	t.Run("pages", func(t *testing.T) {
		seen := make(map[string]int, count)
		pages := 0
		req := &guestdv1.ReadDirRequest{Path: large, PageSize: 7000}
		for {
			resp, err := c.ReadDir(testContext(t), req)
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.GetEntries()) > 7000 || proto.Size(resp) > 4<<20 {
				t.Errorf("a page has %d entries, %d bytes", len(resp.GetEntries()), proto.Size(resp))
			}
			for _, entry := range resp.GetEntries() {
				seen[entry.GetName()]++
				if entry.GetMode() != 0o644 && len(entry.GetName()) > 20 {
					t.Fatalf("entry %v", entry)
				}
			}
			// What comes and goes meanwhile must not move the position.
			name := filepath.Join(large, fmt.Sprint("new", pages))
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if pages%2 == 0 {
				os.Remove(name)
			}
			pages++
			if req.PageToken = resp.GetNextPageToken(); len(req.PageToken) == 0 {
				break
			}
		}
		for i := range count {
			if name := fmt.Sprintf("a-file-with-a-name-%07d", i); seen[name] != 1 {
				t.Fatalf("%s was listed %d times", name, seen[name])
			}
		}
		for name, times := range seen {
			if times > 1 {
				t.Errorf("%s was listed %d times", name, times)
			}
		}
	})
	t.Run("walk", func(t *testing.T) {
		entries := c.walk(t, &guestdv1.WalkRequest{Path: c.dir, NamesOnly: true, Exclude: []string{"new*"}})
		if len(entries) != count+1 {
			t.Errorf("walk lists %d", len(entries))
		}
	})
	t.Run("glob", func(t *testing.T) {
		stream, err := c.Glob(testContext(t), &guestdv1.GlobRequest{
			Context: &guestdv1.FileContext{Base: c.dir}, Pattern: "*/a-file-*[05]",
		})
		if err != nil {
			t.Fatal(err)
		}
		var entries []*guestdv1.FileInfo
		for _, resp := range receiveAll(t, stream) {
			entries = append(entries, resp.GetEntries()...)
		}
		if all := paths(entries); len(all) != count/5 || all[0] != filepath.Join(large, "a-file-with-a-name-0000000") {
			t.Errorf("glob finds %d, the first is %q", len(all), all[0])
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		stream, err := c.Walk(ctx, &guestdv1.WalkRequest{Path: large})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Canceled {
			t.Errorf("after cancel: %v", err)
		}
	})
}

// TestFileReadDir looks at what pages contain.
func TestFileReadDir(t *testing.T) {
	c := serveFiles(t)
	makeFixtures(t, c.dir)
	ctx := testContext(t)
	full, err := c.ReadDir(ctx, &guestdv1.ReadDirRequest{Path: c.dir})
	if err != nil || len(full.GetEntries()) != 3 || len(full.GetNextPageToken()) != 0 {
		t.Fatalf("%v, %v", full, err)
	}
	for _, entry := range full.GetEntries() {
		want := map[string]guestdv1.FileType{
			"fifo": guestdv1.FileType_FILE_TYPE_FIFO,
			"loop": guestdv1.FileType_FILE_TYPE_SYMLINK,
			"dir":  guestdv1.FileType_FILE_TYPE_DIRECTORY,
		}[entry.GetName()]
		if entry.GetType() != want || entry.GetInode() == 0 || entry.GetPath() != "" {
			t.Errorf("%v", entry)
		}
		if entry.GetName() == "loop" && entry.GetSymlinkTarget() != "loop" {
			t.Errorf("%v", entry)
		}
	}
	names, err := c.ReadDir(ctx, &guestdv1.ReadDirRequest{Path: c.dir, NamesOnly: true, PageSize: 2})
	if err != nil || len(names.GetEntries()) != 2 || len(names.GetNextPageToken()) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	if entry := names.GetEntries()[0]; entry.GetName() == "" || entry.GetModifyTime() != nil || entry.GetInode() != 0 {
		t.Errorf("names only: %v", entry)
	}
}

// TestFileWalk walks a tree with all that may be in the way.
func TestFileWalk(t *testing.T) {
	c := serveFiles(t)
	makeFixtures(t, c.dir)
	for _, dir := range []string{"dir/sub/deep", "skip/below", "closed"} {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../dir", filepath.Join(c.dir, "dir/sub/up")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		req  *guestdv1.WalkRequest
		want []string
	}{
		{&guestdv1.WalkRequest{MaxDepth: 1}, []string{"closed", "dir", "fifo", "loop", "skip"}},
		{&guestdv1.WalkRequest{Exclude: []string{"skip", "dir/*/deep"}}, []string{"closed", "dir", "dir/sub", "dir/sub/up", "fifo", "loop"}},
		{&guestdv1.WalkRequest{NamesOnly: true, OneFilesystem: true}, []string{
			"closed", "dir", "dir/sub", "dir/sub/deep", "dir/sub/up", "fifo", "loop", "skip", "skip/below"}},
	} {
		test.req.Path = c.dir
		entries := c.walk(t, test.req)
		if got := paths(entries); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.req, got, test.want)
		}
		seen := map[string]bool{".": true}
		for _, entry := range entries {
			if parent := filepath.Dir(entry.GetPath()); !seen[parent] {
				t.Errorf("%s comes before %s", entry.GetPath(), parent)
			}
			seen[entry.GetPath()] = true
		}
	}

	needRoot(t)
	if err := os.Chmod(filepath.Join(c.dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	user := &guestdv1.FileContext{User: "1000:1000"}
	entries, failed := c.walkAll(t, &guestdv1.WalkRequest{Context: user, Path: c.dir, Exclude: []string{"skip"}})
	if got := paths(entries); len(got) != 7 {
		t.Errorf("as a user: %q", got)
	}
	if len(failed) != 1 || failed[0].GetPath() != "closed" || failed[0].GetErrno() != "EACCES" || failed[0].GetMessage() == "" {
		t.Errorf("as a user: errors %v", failed)
	}
}

// TestFileGlob finds files by pattern.
func TestFileGlob(t *testing.T) {
	c := serveFiles(t)
	for _, name := range []string{"a.go", "b.go", "sub/c.go", "sub/deep/d.go", "sub/deep/e.txt", ".hidden.go", "~tilde.go"} {
		path := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string][]string{
		"*.go":           {".hidden.go", "a.go", "b.go", "~tilde.go"},
		"**/*.go":        {".hidden.go", "a.go", "b.go", "sub/c.go", "sub/deep/d.go", "~tilde.go"},
		"[^.~]*.{go,c}":  {"a.go", "b.go"},
		"sub/**/?.txt":   {"sub/deep/e.txt"},
		"no/such*":       {},
		"sub/deep/d.go":  {"sub/deep/d.go"},
		c.dir + "/a.*":   {"a.go"},
		`sub/deep/\d.go`: {"sub/deep/d.go"},
	} {
		stream, err := c.Glob(testContext(t), &guestdv1.GlobRequest{Context: &guestdv1.FileContext{Base: c.dir}, Pattern: pattern})
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, resp := range receiveAll(t, stream) {
			for _, entry := range resp.GetEntries() {
				if entry.GetModifyTime() == nil {
					t.Errorf("%s: %v", pattern, entry)
				}
				rel, err := filepath.Rel(c.dir, entry.GetPath())
				if err != nil {
					t.Error(err)
				}
				got = append(got, rel)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}
