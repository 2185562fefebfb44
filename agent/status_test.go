//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/fsops"
	"github.com/guestd/guestd/internal/passwd"
	"github.com/guestd/guestd/proc"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

func TestStatusError(t *testing.T) {
	path := func(errno syscall.Errno) error {
		return fmt.Errorf("copy: %w", &fs.PathError{Op: "open", Path: "/x", Err: errno})
	}
	start := func(stage proc.Stage, err error) error { return &proc.StartError{Stage: stage, Path: "prog", Err: err} }
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason guestdv1.ErrorReason
		meta   []string
	}{
		{invalidRequest("path: is missing"), codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{path(syscall.ENOENT), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND, []string{"path", "/x", "op", "open", "errno", "ENOENT"}},
		{path(syscall.EEXIST), codes.AlreadyExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS, []string{"errno", "EEXIST"}},
		{path(syscall.EACCES), codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED, []string{"errno", "EACCES"}},
		{path(syscall.EPERM), codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED, []string{"errno", "EPERM"}},
		{path(syscall.EISDIR), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE, nil},
		{path(syscall.ENOTEMPTY), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY, nil},
		{path(syscall.ENOSPC), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE, nil},
		{path(syscall.EDQUOT), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE, nil},
		{path(syscall.EMFILE), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, nil},
		{path(syscall.EOPNOTSUPP), codes.Unimplemented, guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED, nil},
		{path(syscall.ENAMETOOLONG), codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{path(syscall.EINVAL), codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil},
		{path(syscall.ELOOP), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"errno", "ELOOP"}},
		{path(syscall.EROFS), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil},
		{path(syscall.EIO), codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"errno", "EIO"}},
		{path(syscall.Errno(4000)), codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"errno", "errno 4000"}},
		{&os.LinkError{Op: "rename", Old: "/a", New: "/b", Err: syscall.EXDEV}, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"path", "/b", "op", "rename", "errno", "EXDEV"}},
		{os.NewSyscallError("ioctl", syscall.ENOTTY), codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, []string{"op", "ioctl", "errno", "ENOTTY"}},
		{fs.ErrNotExist, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND, nil},
		{fs.ErrExist, codes.AlreadyExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS, nil},
		{fs.ErrInvalid, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{errors.ErrUnsupported, codes.Unimplemented, guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED, nil},
		{errors.New("mystery"), codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil},
		{&panicError{value: 1}, codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil},
		{errShuttingDown, codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, nil},
		{errWaitTimeout, codes.DeadlineExceeded, guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT, nil},

		{fmt.Errorf("x: %w", passwd.ErrUnknownUser), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, nil},
		{passwd.ErrUnknownGroup, codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, nil},
		{fmt.Errorf("x: %w", proc.ErrNotFound), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND, nil},
		{proc.ErrExists, codes.AlreadyExists, guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS, nil},
		{proc.ErrStale, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE, nil},
		{proc.ErrTooMany, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, nil},
		{&proc.SpecError{Field: "args", Reason: "x"}, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{proc.ErrNoStdin, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{proc.ErrNoTTY, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{proc.ErrStdinClosed, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED, nil},
		{os.ErrProcessDone, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED, nil},
		{proc.ErrClosed, codes.Unavailable, guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN, nil},
		{start(proc.StageExec, syscall.ENOENT), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_START_FAILED, []string{"stage", "exec", "path", "prog", "errno", "ENOENT"}},
		{start(proc.StageCwd, syscall.EACCES), codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_START_FAILED, []string{"stage", "cwd"}},
		{start(proc.StageExec, syscall.ENOEXEC), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_START_FAILED, nil},
		{start(proc.StageExec, syscall.E2BIG), codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_START_FAILED, nil},
		{start(proc.StageExec, syscall.EAGAIN), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, []string{"stage", "exec"}},
		{start(proc.StageIO, proc.ErrNoPoll), codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, []string{"stage", "io"}},
		{start(proc.StageCgroup, errors.ErrUnsupported), codes.Unimplemented, guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED, []string{"stage", "cgroup"}},
		{start(proc.StageUser, passwd.ErrUnknownUser), codes.NotFound, guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, []string{"stage", "user"}},

		{&fsops.ChecksumError{Want: []byte{1, 2}, Got: []byte{3}}, codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, []string{"want", "0102", "got", "03"}},
		{&fsops.SizeError{Want: 5, Got: 4}, codes.DataLoss, guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH, []string{"want", "5", "got", "4"}},
		{&fsops.WriteError{Path: "/y", Written: 77, Err: syscall.ENOSPC}, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_NO_SPACE, []string{"written", "77", "path", "/y", "op", "write", "errno", "ENOSPC"}},
		{&fsops.IdentityError{Err: syscall.EPERM}, codes.PermissionDenied, guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED, []string{"errno", "EPERM"}},
		{&fs.PathError{Op: "open", Path: "/f", Err: fsops.ErrSpecial}, codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE, []string{"path", "/f"}},
		{fsops.ErrBadPattern, codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, nil},
		{fsops.ErrWatchLimit, codes.ResourceExhausted, guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, nil},
		{fsops.ErrBusy, codes.Aborted, guestdv1.ErrorReason_ERROR_REASON_LOCKED, nil},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			got := statusError(c.err)
			wantFailure(t, got, c.code, c.reason, c.meta...)
			if message := status.Convert(got).Message(); message != c.err.Error() {
				t.Errorf("message %q, want %q", message, c.err.Error())
			}
		})
	}
}

func TestStatusErrorWithoutDetails(t *testing.T) {
	if err := statusError(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	for err, want := range map[error]codes.Code{
		context.Canceled:                       codes.Canceled,
		context.DeadlineExceeded:               codes.DeadlineExceeded,
		status.Error(codes.OutOfRange, "grpc"): codes.OutOfRange,
	} {
		if got := status.Code(statusError(err)); got != want {
			t.Errorf("%v became %v", err, got)
		}
	}
	wrapped := fmt.Errorf("receive: %w", status.Error(codes.ResourceExhausted, "too large"))
	if got := status.Code(statusError(wrapped)); got != codes.ResourceExhausted {
		t.Errorf("%v became %v", wrapped, got)
	}
}

// TestEveryReasonHasItsCode keeps reasonCode in step with error.proto, where
// only these are INTERNAL.
func TestEveryReasonHasItsCode(t *testing.T) {
	for number, name := range guestdv1.ErrorReason_name {
		r := guestdv1.ErrorReason(number)
		internal := r == guestdv1.ErrorReason_ERROR_REASON_UNSPECIFIED || r == guestdv1.ErrorReason_ERROR_REASON_SYSTEM
		if (reasonCode(r) == codes.Internal) != internal {
			t.Errorf("%s is %v", name, reasonCode(r))
		}
	}
}

func TestStatusErrorText(t *testing.T) {
	long := "/" + strings.Repeat("ä", 3000)
	for _, path := range []string{"/caf\xe9", "/\xff\xfe/x", long} {
		st := status.Convert(statusError(&fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}))
		if st.Code() != codes.NotFound || len(st.Details()) != 1 {
			t.Errorf("%q: %v", path, st)
		}
		for _, text := range []string{st.Message(), errorInfoOf(st.Err()).GetMetadata()["path"]} {
			if !utf8.ValidString(text) || len(text) > maxErrorText {
				t.Errorf("%d bytes, %q", len(text), text)
			}
		}
	}
	if got := printable("/caf\xe9"); got != `/caf\xE9` {
		t.Errorf("got %q", got)
	}
	if got := printable(long); !strings.HasSuffix(got, "…") {
		t.Errorf("got %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("caf\xe9" + strings.Repeat("x", maxErrorText))
	f.Fuzz(func(t *testing.T, text string) {
		got := printable(text)
		if !utf8.ValidString(got) || len(got) > maxErrorText {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	})
}
