package client_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// pagedFiles lists a directory of three entries, one to a page, whose token is
// the next one's number.
type pagedFiles struct {
	guestdv1.UnimplementedFileServiceServer
	failAt  string        // the token of a page that cannot be read
	hangAt  string        // the token of a page that never comes
	hanging chan struct{} // closed when it was asked for
	ended   chan struct{} // closed when its call has ended
}

func (p *pagedFiles) ReadDir(ctx context.Context, request *guestdv1.ReadDirRequest) (*guestdv1.ReadDirResponse, error) {
	token := string(request.GetPageToken())
	if token == "" {
		token = "0"
	}
	switch token {
	case p.failAt:
		return nil, status.Error(codes.Unavailable, "no more")
	case p.hangAt:
		close(p.hanging)
		<-ctx.Done()
		close(p.ended)
		return nil, ctx.Err()
	}
	i, err := strconv.Atoi(token)
	if err != nil {
		return nil, err
	}
	response := &guestdv1.ReadDirResponse{Entries: []*guestdv1.FileInfo{{Name: "f" + token}}}
	if i < 2 {
		response.NextPageToken = []byte(strconv.Itoa(i + 1))
	}
	return response, nil
}

func servePages(t *testing.T, p *pagedFiles) *client.Files {
	t.Helper()
	return serve(t, func(s *grpc.Server) { guestdv1.RegisterFileServiceServer(s, p) }).Files()
}

func TestReadDirFails(t *testing.T) {
	for failAt, want := range map[string]string{"": "f0f1f2", "1": "f0", "2": "f0f1"} {
		var got string
		var last error
		for info, err := range servePages(t, &pagedFiles{failAt: failAt}).ReadDir(t.Context(), "/d", client.ReadDirOptions{}) {
			if last = err; err == nil {
				got += info.Name()
			}
		}
		if got != want || (last == nil) != (failAt == "") {
			t.Errorf("fails at page %q: lists %q, %v", failAt, got, last)
		}
	}
}

func TestReadDirStops(t *testing.T) {
	server := &pagedFiles{hangAt: "1", hanging: make(chan struct{}), ended: make(chan struct{})}
	for info, err := range servePages(t, server).ReadDir(t.Context(), "/d", client.ReadDirOptions{}) {
		if err != nil || info.Name() != "f0" {
			t.Fatal(info, err)
		}
		<-server.hanging // it is fetched while this one is looked at
		break
	}
	<-server.ended
}

func TestReadDirCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := &pagedFiles{hangAt: "1", hanging: make(chan struct{}), ended: make(chan struct{})}
	var last error
	for _, err := range servePages(t, server).ReadDir(ctx, "/d", client.ReadDirOptions{}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("a cancelled listing ends with %v", last)
	}
}
