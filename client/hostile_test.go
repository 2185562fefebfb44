package client_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// A guest that was taken over says whatever it likes. These servers do, which
// no agent can be made to.

type hostileFiles struct {
	guestdv1.UnimplementedFileServiceServer
	info    *guestdv1.FileInfo
	entries []*guestdv1.FileInfo
	archive []byte
	read    []*guestdv1.ReadResponse
}

func (h *hostileFiles) Stat(context.Context, *guestdv1.StatRequest) (*guestdv1.StatResponse, error) {
	return &guestdv1.StatResponse{Info: h.info}, nil
}

func (h *hostileFiles) ReadDir(context.Context, *guestdv1.ReadDirRequest) (*guestdv1.ReadDirResponse, error) {
	return &guestdv1.ReadDirResponse{Entries: h.entries}, nil
}

func (h *hostileFiles) Walk(_ *guestdv1.WalkRequest, stream guestdv1.FileService_WalkServer) error {
	return stream.Send(&guestdv1.WalkResponse{Entries: h.entries})
}

func (h *hostileFiles) DownloadTree(_ *guestdv1.DownloadTreeRequest, stream guestdv1.FileService_DownloadTreeServer) error {
	if err := stream.Send(&guestdv1.DownloadTreeResponse{Part: &guestdv1.DownloadTreeResponse_Data{Data: h.archive}}); err != nil {
		return err
	}
	return stream.Send(&guestdv1.DownloadTreeResponse{Part: &guestdv1.DownloadTreeResponse_Summary{Summary: &guestdv1.TreeSummary{}}})
}

func (h *hostileFiles) Read(_ *guestdv1.ReadRequest, stream guestdv1.FileService_ReadServer) error {
	for _, part := range h.read {
		if err := stream.Send(part); err != nil {
			return err
		}
	}
	return nil
}

type hostileProcesses struct {
	guestdv1.UnimplementedProcessServiceServer
	events []*guestdv1.ExecResponse
}

func (h *hostileProcesses) Exec(stream guestdv1.ProcessService_ExecServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	for _, event := range h.events {
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	return nil
}

// serve runs services with gRPC's own codec, as an agent in another language
// would.
func serve(t *testing.T, register func(s *grpc.Server)) *client.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	c, err := client.New(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) }, client.Config{ReattachTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func serveFiles(t *testing.T, files *hostileFiles) *client.Client {
	t.Helper()
	return serve(t, func(s *grpc.Server) { guestdv1.RegisterFileServiceServer(s, files) })
}

func TestListingsStayInside(t *testing.T) {
	for _, name := range []string{"../x", "/etc/passwd", "..", ".", "", "a/../b", "a\x00"} {
		files := serveFiles(t, &hostileFiles{entries: []*guestdv1.FileInfo{{Name: name, Path: name}}}).Files()
		for info, err := range files.ReadDir(t.Context(), "/d", client.ReadDirOptions{}) {
			if !errors.Is(err, client.ErrProtocol) {
				t.Errorf("read directory gives %q: %v, %v", name, info, err)
			}
		}
		if name == "." {
			continue // the walked directory itself
		}
		for info, err := range files.Walk(t.Context(), "/d", client.WalkOptions{}) {
			if !errors.Is(err, client.ErrProtocol) {
				t.Errorf("walk gives %q: %v, %v", name, info, err)
			}
		}
	}
}

func TestDownloadsStayInside(t *testing.T) {
	outside := t.TempDir()
	bad := map[string][]tar.Header{
		"dots":        {{Name: "./../escaped", Typeflag: tar.TypeReg}},
		"absolute":    {{Name: filepath.Join(outside, "escaped"), Typeflag: tar.TypeReg}},
		"inner dots":  {{Name: "./a/../../escaped", Typeflag: tar.TypeReg}},
		"through":     {{Name: "./a", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "./a/escaped", Typeflag: tar.TypeReg}},
		"hard link":   {{Name: "./a", Typeflag: tar.TypeLink, Linkname: "../../../etc/passwd"}},
		"link by way": {{Name: "./a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "./b", Typeflag: tar.TypeLink, Linkname: "./a/passwd"}},
	}
	for what, headers := range bad {
		t.Run(what, func(t *testing.T) {
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, header := range headers {
				header.Mode = 0o644
				if err := w.WriteHeader(&header); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			c := serveFiles(t, &hostileFiles{
				info:    &guestdv1.FileInfo{Name: "d", Type: guestdv1.FileType_FILE_TYPE_DIRECTORY},
				archive: archive.Bytes(),
			})
			parent := t.TempDir()
			_, err := c.Download(t.Context(), "/d", filepath.Join(parent, "target"), client.DownloadOptions{})
			if !errors.Is(err, client.ErrUnsafeEntry) {
				t.Errorf("%v", err)
			}
			for _, dir := range []string{parent, outside} {
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
					t.Errorf("%v, %v", entries, err)
				}
			}
		})
	}
}

func TestDownloadOfHalfAnArchive(t *testing.T) {
	c := serveFiles(t, &hostileFiles{
		info:    &guestdv1.FileInfo{Name: "d", Type: guestdv1.FileType_FILE_TYPE_DIRECTORY},
		archive: bytes.Repeat([]byte("x"), 700),
	})
	parent := t.TempDir()
	if _, err := c.Download(t.Context(), "/d", filepath.Join(parent, "target"), client.DownloadOptions{}); err == nil {
		t.Error("garbage is a tree")
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestReadsAreChecked(t *testing.T) {
	info := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Info{Info: &guestdv1.FileInfo{
		Name: "f", Type: guestdv1.FileType_FILE_TYPE_REGULAR, Size: 1 << 62, // a lie
	}}}
	data := &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_Data{Data: []byte("abc")}}
	end := func(n uint64, sum ...byte) *guestdv1.ReadResponse {
		return &guestdv1.ReadResponse{Part: &guestdv1.ReadResponse_End{End: &guestdv1.ReadEnd{
			Bytes: n, Checksum: &guestdv1.Checksum{Type: guestdv1.ChecksumType_CHECKSUM_TYPE_CRC32C, Value: sum},
		}}}
	}
	tests := []struct {
		what  string
		parts []*guestdv1.ReadResponse
		want  error
	}{
		{"no info", []*guestdv1.ReadResponse{data}, client.ErrProtocol},
		{"nothing", nil, client.ErrProtocol},
		{"no end", []*guestdv1.ReadResponse{info, data}, client.ErrProtocol},
		{"missing bytes", []*guestdv1.ReadResponse{info, data, end(4, 0x36, 0x4b, 0x3f, 0xb7)}, client.ErrProtocol},
		{"wrong sum", []*guestdv1.ReadResponse{info, data, end(3, 1, 2, 3, 4)}, client.ErrChecksum},
		{"no sum", []*guestdv1.ReadResponse{info, data, end(3)}, client.ErrChecksum},
		{"right", []*guestdv1.ReadResponse{info, data, end(3, 0x36, 0x4b, 0x3f, 0xb7)}, nil},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			files := serveFiles(t, &hostileFiles{read: test.parts}).Files()
			got, err := files.ReadFile(t.Context(), "/f")
			if !errors.Is(err, test.want) || test.want == nil && string(got) != "abc" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestOutputIsChecked(t *testing.T) {
	started := &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Started{Started: &guestdv1.ExecStarted{
		Process: &guestdv1.Process{Id: "p", Handle: "boot/p", Pid: 1}, Created: true,
	}}}
	chunk := func(offset uint64, data string) *guestdv1.ExecResponse {
		return &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Stdout{Stdout: &guestdv1.OutputChunk{Offset: offset, Data: []byte(data)}}}
	}
	gap := func(offset, n uint64) *guestdv1.ExecResponse {
		return &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Gap{Gap: &guestdv1.OutputGap{
			Stream: guestdv1.OutputStream_OUTPUT_STREAM_STDOUT, Offset: offset, Bytes: n,
		}}}
	}
	exit := &guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Exit{Exit: &guestdv1.ProcessExit{}}}
	newer := &guestdv1.ExecResponse{}
	tests := []struct {
		what   string
		events []*guestdv1.ExecResponse
		out    string
		want   error
	}{
		{"plain", []*guestdv1.ExecResponse{started, chunk(0, "ab"), chunk(2, "c"), exit}, "abc", nil},
		{"overlap", []*guestdv1.ExecResponse{started, chunk(0, "ab"), chunk(0, "abc"), chunk(1, "b"), exit}, "abc", nil},
		{"told twice", []*guestdv1.ExecResponse{started, chunk(0, "a"), exit, exit}, "a", nil},
		{"of a newer agent", []*guestdv1.ExecResponse{started, newer, chunk(0, "a"), newer, exit}, "a", nil},
		{"jump", []*guestdv1.ExecResponse{started, chunk(0, "ab"), chunk(3, "d"), exit}, "ab", client.ErrProtocol},
		{"gap", []*guestdv1.ExecResponse{started, chunk(0, "ab"), gap(2, 5), chunk(7, "d"), exit}, "ab", client.ErrOutputLost},
		{"gap beyond", []*guestdv1.ExecResponse{started, chunk(0, "ab"), gap(3, 5), exit}, "ab", client.ErrProtocol},
		{"endless gap", []*guestdv1.ExecResponse{started, chunk(0, "ab"), gap(2, 1<<64-1), exit}, "ab", client.ErrProtocol},
		{"nothing", nil, "", client.ErrProtocol},
		{"not started", []*guestdv1.ExecResponse{chunk(0, "ab")}, "", client.ErrProtocol},
		{"no exit", []*guestdv1.ExecResponse{started, chunk(0, "ab")}, "ab", client.ErrProtocol},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			c := serve(t, func(s *grpc.Server) {
				guestdv1.RegisterProcessServiceServer(s, &hostileProcesses{events: test.events})
			})
			out, err := c.Command("x").Output(t.Context())
			if !errors.Is(err, test.want) || string(out) != test.out {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

func TestRefusedUpload(t *testing.T) {
	// An agent that lacks the call: the sender must not wait for ever.
	c := serveFiles(t, &hostileFiles{})
	source := io.LimitReader(zeros{}, 64<<20)
	if _, err := c.Files().WriteFile(t.Context(), "/f", source, client.WriteOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(strings.Repeat("x", 4<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upload(t.Context(), dir, "/d", client.UploadOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
