//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// patience bounds every wait of these tests; what is waited for comes much
// earlier unless something is broken.
const patience = 30 * time.Second

// fileClient is a connection to an agent that was started for one test.
type fileClient struct {
	guestdv1.FileServiceClient
	conn   *grpc.ClientConn
	socket string
	dir    string // for the test's files; anybody may write there
}

// serveFiles starts an agent, and checks at the end of the test that it leaves
// neither descriptors nor goroutines behind.
func serveFiles(t testing.TB) *fileClient {
	t.Helper()
	dir := sharedDir(t)
	leaks := watchLeaks(t)
	server, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	c := dialFiles(t, socket)
	c.dir = filepath.Join(dir, "files")
	if err := os.Mkdir(c.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		release(c.conn)
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		leaks()
	})
	return c
}

// dialFiles opens one more connection, as a stock client does.
func dialFiles(t testing.TB, socket string, opts ...grpc.DialOption) *fileClient {
	t.Helper()
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("unix:"+socket, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { release(conn) })
	return &fileClient{FileServiceClient: guestdv1.NewFileServiceClient(conn), conn: conn, socket: socket}
}

// sharedDir is a directory that every user may enter. (t.TempDir is root's
// alone, and its name may be too long for a socket.)
func sharedDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guestd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// watchLeaks returns a function that fails the test if there are more
// descriptors or goroutines than now.
func watchLeaks(t testing.TB) func() {
	t.Helper()
	files, routines := openFDs(t), runtime.NumGoroutine()
	return func() {
		t.Helper()
		eventually(t, "descriptors and goroutines are freed", func() bool {
			return openFDs(t) <= files && runtime.NumGoroutine() <= routines
		}, func() {
			stacks := make([]byte, 1<<20)
			t.Logf("%d descriptors, were %d; %d goroutines, were %d\n%s", openFDs(t), files,
				runtime.NumGoroutine(), routines, stacks[:runtime.Stack(stacks, true)])
		})
	}
}

// openFDs counts this process's descriptors, without those of Go's poller,
// which once made stay.
func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			n++
		}
	}
	return n
}

// eventually waits until done; otherwise says what, and calls explain if there
// is one.
func eventually(t testing.TB, what string, done func() bool, explain ...func()) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !done(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			for _, e := range explain {
				e()
			}
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(pause)
	}
}

// testContext ends with the test, or when its patience is over.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// eachUser runs fn as the agent's own user and, where the agent may become
// somebody else, as user 1000, who need not exist.
func eachUser(t *testing.T, fn func(t *testing.T, as *guestdv1.FileContext, uid int)) {
	t.Run("own", func(t *testing.T) { fn(t, nil, os.Getuid()) })
	t.Run("uid1000", func(t *testing.T) {
		needRoot(t)
		fn(t, &guestdv1.FileContext{User: "1000:1000"}, 1000)
	})
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root may act as another user or mount")
	}
}

// wantFailure checks an error as a client gets it. meta are pairs that must be
// in the details; an empty value only has to be there.
func wantFailure(t testing.TB, err error, code codes.Code, reason guestdv1.ErrorReason, meta ...string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Errorf("got %v (%v), want %v", st.Code(), err, code)
		return
	}
	info := errorInfoOf(err)
	if name := strings.TrimPrefix(reason.String(), "ERROR_REASON_"); info.GetReason() != name || info.GetDomain() != "guestd" {
		t.Errorf("%v: reason %s/%s, want guestd/%s", err, info.GetDomain(), info.GetReason(), name)
	}
	for i := 0; i < len(meta); i += 2 {
		got, ok := info.GetMetadata()[meta[i]]
		if !ok || meta[i+1] != "" && got != meta[i+1] {
			t.Errorf("%v: metadata %s is %q, want %q", err, meta[i], got, meta[i+1])
		}
	}
}

// upload writes a file in pieces of piece bytes; sum, if not nil, goes into the
// commit.
func (c *fileClient) upload(ctx context.Context, start *guestdv1.WriteStart, data []byte, piece int, sum *guestdv1.Checksum) (*guestdv1.WriteResponse, error) {
	stream, err := c.Write(ctx)
	if err != nil {
		return nil, err
	}
	requests := []*guestdv1.WriteRequest{{Part: &guestdv1.WriteRequest_Start{Start: start}}}
	for rest := data; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
		part := &guestdv1.WriteRequest_Data{Data: rest[:min(piece, len(rest))]}
		requests = append(requests, &guestdv1.WriteRequest{Part: part})
	}
	if sum != nil {
		commit := &guestdv1.WriteCommit{Checksum: sum}
		requests = append(requests, &guestdv1.WriteRequest{Part: &guestdv1.WriteRequest_Commit{Commit: commit}})
	}
	for _, req := range requests {
		if err := stream.Send(req); errors.Is(err, io.EOF) {
			break // the response tells why
		} else if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// put writes a small file.
func (c *fileClient) put(t testing.TB, as *guestdv1.FileContext, path, content string) *guestdv1.WriteResponse {
	t.Helper()
	resp, err := c.upload(testContext(t), &guestdv1.WriteStart{Context: as, Path: path}, []byte(content), 1<<20, nil)
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
	return resp
}

// download reads a file to its end.
func (c *fileClient) download(ctx context.Context, req *guestdv1.ReadRequest) (info *guestdv1.FileInfo, data []byte, end *guestdv1.ReadEnd, err error) {
	stream, err := c.Read(ctx, req)
	if err != nil {
		return nil, nil, nil, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return info, data, end, nil
		}
		if err != nil {
			return info, data, end, err
		}
		switch part := resp.GetPart().(type) {
		case *guestdv1.ReadResponse_Info:
			info = part.Info
		case *guestdv1.ReadResponse_Data:
			data = append(data, part.Data...)
		case *guestdv1.ReadResponse_End:
			end = part.End
		}
	}
}

// wantContent compares a file, as the machine has it, with what it should be.
func wantContent(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes %.40q, want %d bytes %.40q", path, len(got), got, len(want), want)
	}
}

// wantNoLeftovers checks that a directory holds nothing but names.
func wantNoLeftovers(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		found := false
		for _, name := range names {
			found = found || name == entry.Name()
		}
		if !found {
			t.Errorf("%s: left over in %s", entry.Name(), dir)
		}
	}
}

// TestFileBulkFields compares the field numbers that the bulk frames are sent
// with to the contract.
func TestFileBulkFields(t *testing.T) {
	for _, known := range []struct {
		message proto.Message
		number  int
	}{
		{&guestdv1.WriteRequest{}, writeDataField},
		{&guestdv1.ReadResponse{}, readDataField},
		{&guestdv1.UploadTreeRequest{}, uploadTreeDataField},
		{&guestdv1.DownloadTreeResponse{}, downloadTreeDataField},
	} {
		field := known.message.ProtoReflect().Descriptor().Fields().ByName("data")
		if int(field.Number()) != known.number {
			t.Errorf("%T.data is field %d, not %d", known.message, field.Number(), known.number)
		}
	}
}

// errorInfoOf returns the details of a failed call, or nil.
func errorInfoOf(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

func errorReason(err error) string          { return errorInfoOf(err).GetReason() }
func errorMeta(err error) map[string]string { return errorInfoOf(err).GetMetadata() }
