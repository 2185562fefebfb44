package client_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/client"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// halfClosed answers a start with the exit code that says what followed it on
// the stream.
type halfClosed struct {
	guestdv1.UnimplementedProcessServiceServer
}

const (
	streamEnded = 3
	inputEnded  = 4
)

func (halfClosed) Exec(stream guestdv1.ProcessService_ExecServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	started := &guestdv1.ExecStarted{Process: &guestdv1.Process{Id: "p", Handle: "b/p"}}
	if err := stream.Send(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Started{Started: started}}); err != nil {
		return err
	}
	exit := &guestdv1.ProcessExit{Code: streamEnded}
	switch req, err := stream.Recv(); {
	case err == nil && req.GetStdinEof() != nil:
		exit.Code = inputEnded
	case !errors.Is(err, io.EOF):
		return status.Errorf(codes.InvalidArgument, "%v, %v", req, err)
	}
	return stream.Send(&guestdv1.ExecResponse{Event: &guestdv1.ExecResponse_Exit{Exit: exit}})
}

// A stream on which nothing more will be sent is closed with the first request,
// also that of an attachment; one with input stays open.
func TestStreamWithoutInputIsHalfClosed(t *testing.T) {
	c := serve(t, func(s *grpc.Server) { guestdv1.RegisterProcessServiceServer(s, halfClosed{}) })
	code := func(cmd *client.Cmd) int {
		var exit *client.ExitError
		if err := cmd.Run(t.Context()); !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return exit.Code
	}
	if got := code(c.Command("x")); got != streamEnded {
		t.Errorf("code %d", got)
	}
	cmd := c.Command("x")
	cmd.Stdin = strings.NewReader("")
	if got := code(cmd); got != inputEnded {
		t.Errorf("with input: code %d", got)
	}
	a, err := c.Process("p").Attach(t.Context(), client.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if exit, err := a.CopyTo(nil, nil); err != nil || exit.Code != streamEnded {
		t.Errorf("attached: %v, %v", exit, err)
	}
}
