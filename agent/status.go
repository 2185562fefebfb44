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
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/guestd/guestd/internal/passwd"
	guestdv1 "github.com/guestd/guestd/proto/guestd/v1"
)

// errorDomain is the domain of every ErrorInfo that the agent sends.
const errorDomain = "guestd"

// maxErrorText bounds the message and each metadata value of an error. All of
// it travels in HTTP/2 trailers, and stock clients (grpcio) refuse more than
// 8 KiB of those: the caller would then see nothing of the cause.
const maxErrorText = 1024

// reason abbreviates the generated type in this package.
type reason = guestdv1.ErrorReason

// callError is an error that arises in this package, or one whose reason a
// handler knows better than its errno tells.
type callError struct {
	reason reason
	text   string            // for people; if empty, err's
	meta   map[string]string // see error.proto; may be nil
	err    error             // cause; may be nil
}

// Error returns the sentence for people.
func (e *callError) Error() string {
	switch {
	case e.err == nil:
		return e.text
	case e.text == "":
		return e.err.Error()
	}
	return e.text + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// errShuttingDown ends the calls that are still running when a shutdown's
// grace is over.
var errShuttingDown error = &callError{
	reason: guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
	text:   "the agent is shutting down",
}

// invalidRequest is an INVALID_REQUEST. The text names the field first, as the
// wire does: "spec.args: is empty".
func invalidRequest(format string, args ...any) error {
	return &callError{
		reason: guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		text:   fmt.Sprintf(format, args...),
	}
}

// panicError is what a recovered panic becomes. The interceptor logs the
// stack; the caller is told only that there was one.
type panicError struct {
	value any
	stack []byte
}

// Error tells that there was a panic.
func (e *panicError) Error() string { return fmt.Sprintf("internal error: panic: %v", e.value) }

// statusError turns the error of a handler into the error that gRPC sends. It
// returns nil for nil. An error that is a gRPC status already (of gRPC itself,
// for example of a message over the limit) is kept as it is.
func statusError(err error) error {
	if err == nil {
		return nil
	}
	if st, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return st.GRPCStatus().Err()
	}
	code, info := classify(err)
	st := status.New(code, printable(err.Error()))
	if info == nil {
		return st.Err()
	}
	for key, value := range info.Metadata {
		info.Metadata[key] = printable(value)
	}
	detailed, detailErr := st.WithDetails(info)
	if detailErr != nil {
		// Only a message that cannot be marshalled gets here, and every
		// string was made valid above.
		return st.Err()
	}
	return detailed.Err()
}

// classify finds the code and details of an error; nil details for errors
// whose code says all.
func classify(err error) (codes.Code, *errdetails.ErrorInfo) {
	var wire interface{ GRPCStatus() *status.Status }
	var call *callError
	var panicked *panicError
	switch {
	case errors.As(err, &call):
		meta := systemMeta(err)
		for key, value := range call.meta {
			meta[key] = value
		}
		return reasonCode(call.reason), errorInfo(call.reason, meta)
	case errors.As(err, &panicked):
		return codes.Internal, errorInfo(guestdv1.ErrorReason_ERROR_REASON_SYSTEM, nil)
	case errors.As(err, &wire):
		return wire.GRPCStatus().Code(), nil
	case errors.Is(err, context.Canceled):
		return codes.Canceled, nil
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, nil
	case errors.Is(err, passwd.ErrUnknownUser), errors.Is(err, passwd.ErrUnknownGroup):
		return codes.NotFound, errorInfo(guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER, systemMeta(err))
	}
	code, why := systemReason(err)
	return code, errorInfo(why, systemMeta(err))
}

// errorInfo builds the detail.
func errorInfo(r reason, meta map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{
		Reason:   strings.TrimPrefix(r.String(), "ERROR_REASON_"),
		Domain:   errorDomain,
		Metadata: meta,
	}
}

// reasonCode is the status code that error.proto documents for a reason.
func reasonCode(r reason) codes.Code {
	switch r {
	case guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		guestdv1.ErrorReason_ERROR_REASON_UNSAFE_ENTRY:
		return codes.InvalidArgument
	case guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND,
		guestdv1.ErrorReason_ERROR_REASON_UNKNOWN_USER,
		guestdv1.ErrorReason_ERROR_REASON_PROCESS_NOT_FOUND:
		return codes.NotFound
	case guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS:
		return codes.AlreadyExists
	case guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED:
		return codes.PermissionDenied
	case guestdv1.ErrorReason_ERROR_REASON_CHECKSUM_MISMATCH:
		return codes.DataLoss
	case guestdv1.ErrorReason_ERROR_REASON_NO_SPACE,
		guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED:
		return codes.ResourceExhausted
	case guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED:
		return codes.Unimplemented
	case guestdv1.ErrorReason_ERROR_REASON_WAIT_TIMEOUT:
		return codes.DeadlineExceeded
	case guestdv1.ErrorReason_ERROR_REASON_LOCKED:
		return codes.Aborted
	case guestdv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN:
		return codes.Unavailable
	case guestdv1.ErrorReason_ERROR_REASON_STALE_HANDLE,
		guestdv1.ErrorReason_ERROR_REASON_PROCESS_ENDED,
		guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE,
		guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY,
		guestdv1.ErrorReason_ERROR_REASON_RESUME_MISMATCH,
		guestdv1.ErrorReason_ERROR_REASON_START_FAILED:
		return codes.FailedPrecondition
	}
	return codes.Internal
}

// systemReason classifies an error of the operating system by its errno; what
// has none is INTERNAL.
func systemReason(err error) (codes.Code, reason) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return sentinelReason(err)
	}
	var r reason
	switch errno {
	case unix.ENOENT:
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	case unix.EEXIST:
		r = guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	case unix.EACCES, unix.EPERM:
		r = guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	case unix.ENOTDIR, unix.EISDIR:
		r = guestdv1.ErrorReason_ERROR_REASON_WRONG_TYPE
	case unix.ENOTEMPTY:
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_EMPTY
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		r = guestdv1.ErrorReason_ERROR_REASON_NO_SPACE
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EUSERS:
		r = guestdv1.ErrorReason_ERROR_REASON_LIMIT_REACHED
	case unix.ENOSYS, unix.EOPNOTSUPP:
		r = guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED
	case unix.ENAMETOOLONG:
		r = guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	case unix.EINVAL:
		return codes.InvalidArgument, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	case unix.EROFS, unix.ELOOP, unix.EXDEV, unix.EBUSY, unix.ETXTBSY, unix.EMLINK,
		unix.ENOEXEC, unix.ESPIPE, unix.EPIPE, unix.ENXIO, unix.ENODEV, unix.ENODATA, unix.ESTALE:
		return codes.FailedPrecondition, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	default:
		return codes.Internal, guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	}
	return reasonCode(r), r
}

// sentinelReason classifies the sentinel errors of io/fs that came without an
// errno.
func sentinelReason(err error) (codes.Code, reason) {
	r := guestdv1.ErrorReason_ERROR_REASON_SYSTEM
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = guestdv1.ErrorReason_ERROR_REASON_NOT_FOUND
	case errors.Is(err, fs.ErrExist):
		r = guestdv1.ErrorReason_ERROR_REASON_ALREADY_EXISTS
	case errors.Is(err, fs.ErrPermission):
		r = guestdv1.ErrorReason_ERROR_REASON_PERMISSION_DENIED
	case errors.Is(err, fs.ErrInvalid):
		r = guestdv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	case errors.Is(err, errors.ErrUnsupported):
		r = guestdv1.ErrorReason_ERROR_REASON_UNSUPPORTED
	}
	return reasonCode(r), r
}

// systemMeta collects path, op and errno from an error's chain; never nil.
func systemMeta(err error) map[string]string {
	meta := make(map[string]string, 4)
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	var callErr *os.SyscallError
	switch {
	case errors.As(err, &pathErr):
		meta["path"], meta["op"] = pathErr.Path, pathErr.Op
	case errors.As(err, &linkErr):
		// The new name: the caller can tell from op and errno which of
		// the two it was, and the message names both.
		meta["path"], meta["op"] = linkErr.New, linkErr.Op
	case errors.As(err, &callErr):
		meta["op"] = callErr.Syscall
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		meta["errno"] = errnoSymbol(errno)
	}
	return meta
}

// errnoSymbol is an error number's symbol; "errno N" for one that x/sys does
// not know.
func errnoSymbol(errno syscall.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}

// printable makes text fit to travel: valid UTF-8, with other bytes written as
// \xNN, and at most about maxErrorText bytes.
func printable(text string) string {
	if utf8.ValidString(text) && len(text) <= maxErrorText {
		return text
	}
	const ellipsis = "…"
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		piece := text[i : i+size]
		if r == utf8.RuneError && size == 1 {
			piece = fmt.Sprintf(`\x%02X`, text[i])
		}
		if b.Len()+len(piece)+len(ellipsis) > maxErrorText {
			b.WriteString(ellipsis)
			break
		}
		b.WriteString(piece)
		i += size
	}
	return b.String()
}
