package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// offline is a client that never connects.
func offline(t *testing.T) *Client {
	t.Helper()
	c, err := New(func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }, Config{Name: "test:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func agentError(t *testing.T, code codes.Code, reason string, meta map[string]string) error {
	t.Helper()
	st, err := status.New(code, "a sentence").WithDetails(&errdetails.ErrorInfo{Domain: "guestd", Reason: reason, Metadata: meta})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestEveryReasonHasAMeaning(t *testing.T) {
	c := offline(t)
	for number, name := range guestdv1.ErrorReason_name {
		if number == 0 {
			continue
		}
		reason := guestdv1.ErrorReason(number)
		err := c.mapError("open", "/x", agentError(t, codes.Internal, strings.TrimPrefix(name, reasonPrefix), nil))
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != reason {
			t.Errorf("%s becomes %#v", name, err)
			continue
		}
		switch reason {
		case guestdv1.ErrorReason_ERROR_REASON_START_FAILED, guestdv1.ErrorReason_ERROR_REASON_SYSTEM:
			// They mean what their errno means.
		default:
			if want := sentinel(reason); want == nil || !errors.Is(err, want) {
				t.Errorf("%s is no %v", name, want)
			}
		}
	}
}

func TestErrorIs(t *testing.T) {
	tests := []struct {
		name   string
		code   codes.Code
		reason string
		meta   map[string]string
		is     []error
		isNot  []error
	}{
		{
			"missing file", codes.NotFound, "NOT_FOUND", map[string]string{"errno": "ENOENT"},
			[]error{fs.ErrNotExist, syscall.ENOENT},
			[]error{fs.ErrPermission, ErrProcessNotFound},
		},
		{
			"missing process", codes.NotFound, "PROCESS_NOT_FOUND", nil,
			[]error{ErrProcessNotFound},
			[]error{fs.ErrNotExist},
		},
		{"unknown user", codes.NotFound, "UNKNOWN_USER", nil, []error{ErrUnknownUser}, []error{fs.ErrNotExist}},
		{
			"disk full", codes.ResourceExhausted, "NO_SPACE", map[string]string{"errno": "ENOSPC", "written": "42"},
			[]error{ErrNoSpace, syscall.ENOSPC},
			[]error{ErrLimit},
		},
		{
			"not empty, whose number differs between systems", codes.FailedPrecondition, "NOT_EMPTY",
			map[string]string{"errno": "ENOTEMPTY"},
			[]error{ErrNotEmpty, syscall.ENOTEMPTY},
			nil,
		},
		{
			"program not in PATH", codes.NotFound, "START_FAILED", map[string]string{"errno": "ENOENT", "stage": "lookup"},
			[]error{fs.ErrNotExist, exec.ErrNotFound, syscall.ENOENT},
			[]error{fs.ErrPermission},
		},
		{
			"program not executable", codes.PermissionDenied, "START_FAILED", map[string]string{"errno": "EACCES", "stage": "exec"},
			[]error{fs.ErrPermission, syscall.EACCES},
			[]error{exec.ErrNotFound},
		},
		{"missing by a reason of tomorrow", codes.NotFound, "LOST_IN_SPACE", nil, []error{fs.ErrNotExist}, nil},
		{"start failed without errno", codes.PermissionDenied, "START_FAILED", nil, []error{fs.ErrPermission}, nil},
		{"any errno", codes.Internal, "SYSTEM", map[string]string{"errno": "EIO"}, []error{syscall.EIO}, []error{fs.ErrNotExist}},
		{"unsupported", codes.Unimplemented, "UNSUPPORTED", nil, []error{errors.ErrUnsupported}, nil},
	}
	c := offline(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := c.mapError("open", "/x", agentError(t, test.code, test.reason, test.meta))
			for _, target := range test.is {
				if !errors.Is(err, target) {
					t.Errorf("%#v is no %v", err, target)
				}
			}
			for _, target := range test.isNot {
				if errors.Is(err, target) {
					t.Errorf("%#v is %v", err, target)
				}
			}
		})
	}
}

func TestErrorFields(t *testing.T) {
	c := offline(t)
	err := c.mapError("write", "mine", agentError(t, codes.ResourceExhausted, "NO_SPACE", map[string]string{
		"errno": "ENOSPC", "written": "4096", "path": "/theirs", "op": "pwrite", "want": "1", "got": "2",
	}))
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T", err)
	}
	want := Error{
		Op: "pwrite", Path: "/theirs", Reason: guestdv1.ErrorReason_ERROR_REASON_NO_SPACE, Code: codes.ResourceExhausted,
		Errno: syscall.ENOSPC, Symbol: "ENOSPC", Written: 4096, Want: "1", Got: "2", Message: "a sentence",
	}
	if *e != want {
		t.Errorf("got  %#v\nwant %#v", *e, want)
	}
}

func TestErrorWithoutDetails(t *testing.T) {
	c := offline(t)
	tests := []struct {
		code codes.Code
		is   error
	}{
		{codes.Unimplemented, errors.ErrUnsupported},
		{codes.DeadlineExceeded, context.DeadlineExceeded},
		{codes.Canceled, context.Canceled},
		{codes.Unavailable, ErrUnavailable},
		{codes.ResourceExhausted, ErrLimit},
	}
	for _, test := range tests {
		if err := c.mapError("stat", "/x", status.Error(test.code, "no words")); !errors.Is(err, test.is) {
			t.Errorf("%v becomes %#v", test.code, err)
		}
	}
	if c.mapError("stat", "/x", nil) != nil {
		t.Error("no error becomes one")
	}
}

func TestForeignDetailsAreNotTrusted(t *testing.T) {
	c := offline(t)
	st, err := status.New(codes.Internal, "x").WithDetails(
		&errdetails.ErrorInfo{Domain: "elsewhere", Reason: "NOT_FOUND"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.mapError("stat", "", st.Err()); errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reason of another domain is taken: %#v", err)
	}
}

func TestErrorTextIsPrintable(t *testing.T) {
	c := offline(t)
	st, err := status.New(codes.NotFound, "open \x1b[2J/x\n: gone").WithDetails(
		&errdetails.ErrorInfo{Domain: "guestd", Reason: "NOT_FOUND", Metadata: map[string]string{"path": "/\x07"}})
	if err != nil {
		t.Fatal(err)
	}
	mapped := c.mapError("stat", "", st.Err())
	if text := mapped.Error(); strings.ContainsAny(text, "\x1b\n\x07") {
		t.Errorf("%q", text)
	}
	if e, _ := errors.AsType[*Error](mapped); strings.Contains(e.Path, "\x07") {
		t.Errorf("path %q", e.Path)
	}
}

func TestNobodyThere(t *testing.T) {
	c := offline(t)
	_, err := c.Info(t.Context())
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%#v", err)
	}
	if want := "agent at test:1: connection refused"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReadySaysWhyNot(t *testing.T) {
	c := offline(t)
	if _, err := c.Info(t.Context()); err == nil {
		t.Fatal("somebody answered")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.Ready(ctx)
	for _, target := range []error{context.Canceled, ErrUnavailable, syscall.ECONNREFUSED} {
		if !errors.Is(err, target) {
			t.Errorf("%v is no %v", err, target)
		}
	}
}

func TestClosedClient(t *testing.T) {
	c := offline(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%#v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
